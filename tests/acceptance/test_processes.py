"""The script that compares one process with two: what it concludes, by hand."""

from pathlib import Path

import pytest
import torch

from tests.acceptance.processes import Difference, Training


def training(weight, running_mean, loss):
    state = {
        "network.weight": torch.tensor([1.0, weight]),
        "network.running_mean": torch.tensor([running_mean]),
        "network.steps": torch.tensor(3),
    }
    return Training(state, [4.0, loss], Path("last.ckpt"))


@pytest.mark.parametrize(
    ("other", "expected", "allowed"),
    [
        ((3.0, 1.0, 2.0), (0.0, 0.0, 0.0), True),
        ((3.0 + 2e-5, 1.0, 2.0), (0.0, 5e-6, 0.0), True),
        ((3.0 + 8e-5, 1.0, 2.0), (0.0, 2e-5, 0.0), False),
        ((3.0, 1.0 - 1e-5, 2.0), (0.0, 0.0, 5e-6), True),
        ((3.0, 1.0 - 4e-5, 2.0), (0.0, 0.0, 2e-5), False),
        ((3.0, 1.0, 2.0 + 4e-5), (2e-5, 0.0, 0.0), False),
    ],
)
def test_the_greatest_differences(other, expected, allowed):
    difference = Difference.between(training(3.0, 1.0, 2.0), training(*other))
    assert difference == pytest.approx(expected, rel=0.05, abs=1e-9)
    assert difference.is_allowed is allowed


@pytest.mark.parametrize("place", range(3))
def test_what_is_not_a_number_is_never_the_same(place):
    values = [3.0, 1.0, 2.0]
    values[place] = float("nan")
    assert not Difference.between(training(3.0, 1.0, 2.0), training(*values)).is_allowed


@pytest.mark.parametrize("losses", [[4.0], [4.0, 2.0, 2.0]])
def test_trainings_of_other_lengths_are_not_compared(losses):
    one, two = training(3.0, 1.0, 2.0), training(3.0, 1.0, 2.0)
    with pytest.raises(ValueError, match=r"2 and \d steps"):
        Difference.between(one, two._replace(losses=losses))
