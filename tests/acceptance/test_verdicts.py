"""What the programs of this folder conclude: each of their checks can fail. Oracle: by hand."""

from pathlib import Path

import pytest
import torch

from tests.acceptance import detr_overfit
from tests.acceptance.kills import difference
from tests.acceptance.processes import Difference, Training
from tests.acceptance.soak import Growth, Use
from tests.sweep import sweep


@sweep(
    "a, b, place",
    [
        ({"x": [1, {"y": torch.zeros(2)}]}, {"x": [1, {"y": torch.zeros(2)}]}, None),
        ({"x": [1, {"y": torch.zeros(2)}]}, {"x": [1, {"y": torch.tensor([0, 1e-30])}]}, "/x/1/y"),
        ({"x": torch.zeros(2)}, {"x": torch.zeros(2).double()}, "/x"),
        ({"x": 1}, {"x": 1, "z": 2}, ": ['z']"),
        ((1, 2), (1, 3), "/1"),
        ([1], [1, 2], ""),
        (1, 1.0, ""),
    ],
)
def test_any_bit_of_a_checkpoint_is_a_difference(a, b, place):
    assert difference(a, b) == place


def training(weight=3.0, running_mean=1.0, loss=2.0):
    state = {
        "network.weight": torch.tensor([1.0, weight]),
        "network.running_mean": torch.tensor([running_mean]),
        "network.steps": torch.tensor(3),
    }
    return Training(state, [4.0, loss], Path("last.ckpt"))


@sweep(
    "other, expected, allowed",
    [
        ({}, (0.0, 0.0, 0.0), True),
        ({"weight": 3.0 + 2e-5}, (0.0, 5e-6, 0.0), True),
        ({"weight": 3.0 + 8e-5}, (0.0, 2e-5, 0.0), False),
        ({"running_mean": 1.0 - 1e-5}, (0.0, 0.0, 5e-6), True),
        ({"running_mean": 1.0 - 4e-5}, (0.0, 0.0, 2e-5), False),
        ({"loss": 2.0 + 4e-5}, (2e-5, 0.0, 0.0), False),
    ],
)
def test_two_processes_may_differ_by_rounding_alone(other, expected, allowed):
    found = Difference.between(training(), training(**other))
    assert found == pytest.approx(expected, rel=0.05, abs=1e-9)
    assert found.is_allowed is allowed


@sweep("name", ["weight", "running_mean", "loss"])
def test_what_is_not_a_number_is_never_the_same(name):
    wrong = training(**{name: float("nan")})
    assert not Difference.between(wrong, wrong).is_allowed


@sweep("losses", [[4.0], [4.0, 2.0, 2.0]])
def test_trainings_of_other_lengths_are_not_compared(losses):
    with pytest.raises(ValueError, match=r"2 and \d steps"):
        Difference.between(training(), training()._replace(losses=losses))


@sweep(
    "resident, files, allowed",
    [
        (1019, 118, True),
        (981, 118, True),
        (1021, 118, False),
        (979, 118, False),
        (1000, 119, False),
        (1000, 117, False),
    ],
)
def test_a_training_may_grow_by_two_percent_and_no_file(resident, files, allowed):
    growth = Growth.between(Use(300, 1000, 5, 118), Use(3000, resident, 500, files))
    assert growth == (pytest.approx(resident / 1000 - 1), files - 118)
    assert growth.is_allowed is allowed


@sweep("change, outcome", [(0.0, 0), (1e-7, 1)])
def test_a_changed_detector_is_a_failure(change, outcome, tmp_path, monkeypatch, capsys):
    """Figures above both bars; one bit of one tensor differs in the second case."""
    figures = {"val/box_AP": 0.6, "val/PQ": 0.5, "val/PQ_things": 0.4, "val/PQ_stuff": 0.6}
    weights = {"detector": torch.ones(3), "masks": torch.ones(3) + torch.tensor([0, change, 0])}

    def fit(step, *_):
        return figures, {"network.detector.weight": weights[step]}, tmp_path / "last.ckpt"

    monkeypatch.setattr(detr_overfit, "fit", fit)
    monkeypatch.setattr(detr_overfit, "write_synthetic_yard", lambda *_, **__: ())
    assert detr_overfit.main([]) == outcome
    assert f"{outcome} of the detector's 1 tensors changed" in capsys.readouterr().out
