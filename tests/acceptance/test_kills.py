"""The script that kills runs: all of it once, and the comparison by itself."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.acceptance.kills import Killed, difference, table

SCRIPT = Path(__file__).resolve().parents[0] / "kills.py"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "head", "code"), [("KILL", "MaskRCNNHead", -9), ("TERM", "SOLOv2Head", 75)])
def test_killed_runs_end_as_undisturbed_ones(name, head, code):
    """In a process of its own, whose copies the runs are: this one has computed with several threads."""
    words = [sys.executable, str(SCRIPT), "--runs", "4", "--seed", "1", "--signal", name, "--head", head]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.endswith(": identical") for line in lines) == 4
    assert f"[{code}" in done.stdout


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
