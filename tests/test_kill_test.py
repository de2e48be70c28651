"""The script that kills runs: all of it once, and the comparison by itself."""

import signal

import pytest
import torch

from scripts.kill_test import Killed, difference, kill_test, table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "head", "code"),
    [(signal.SIGKILL, "MaskRCNNHead", -signal.SIGKILL), (signal.SIGTERM, "SOLOv2Head", 75)],
)
def test_killed_runs_end_as_undisturbed_ones(tmp_path, number, head, code):
    results = kill_test(tmp_path, runs=4, number=number, seed=1, head=head)
    assert all(result.identical for result in results)
    assert {code for result in results for code in result.exit_codes} == {code}


@pytest.mark.parametrize(
    ("a", "b", "place"),
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
def test_any_bit_is_a_difference(a, b, place):
    assert difference(a, b) == place


def test_table():
    results = [Killed("step", 1, 2, (-9,), True), Killed("step", 2, 5, (-9, -9), False)]
    assert table(results, signal.SIGKILL).splitlines()[1].split() == ["step", "2", "3", "1", "5"]
