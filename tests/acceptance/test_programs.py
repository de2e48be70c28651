"""The programs of this folder, run as long as continuous integration can wait; by hand they run at length."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance import detr_overfit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def start(program, *options):
    """Run a program in a process of its own, whose copies its runs may be: this one has computed with threads."""
    words = [sys.executable, str(Path(__file__).with_name(program)), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=1100, check=False)


@pytest.mark.parametrize(
    ("name", "head", "code"), [("KILL", "MaskRCNNHead", -9), ("TERM", "SOLOv2Head", 75), ("MIXED", "MaskRCNNHead", 0)]
)
def test_killed_runs_end_as_undisturbed_ones(name, head, code):
    """Oracle: the checkpoint of a run that nobody disturbed, bit by bit."""
    done = start("kills.py", "--runs", "4", "--seed", "1", "--signal", name, "--head", head)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(line.endswith(": identical") for line in done.stdout.splitlines()) == 4
    assert f"[{code}" in done.stdout


def test_memory_and_files_of_a_training_are_watched():
    """Oracle: its process and its two loading processes are looked at twice, and the verdict is that of the figures."""
    done = start("soak.py", "--steps", "6", "--interval", "3")
    rows = [line.split() for line in done.stdout.splitlines() if re.fullmatch(r"[ \d.]+", line)]
    assert [row[0] for row in rows] == ["3", "6"], done.stdout + done.stderr
    assert all(float(row[1]) > 100 and float(row[2]) > 100 and int(row[3]) > 10 for row in rows)
    verdict = re.search(r"From step 3 to 6: memory ([+-][\d.]+) %, open files ([+-]\d+)", done.stdout)
    assert verdict is not None
    assert done.returncode == (0 if abs(float(verdict[1])) <= 2 and int(verdict[2]) == 0 else 1)


def test_an_epoch_of_each_step_of_detr_is_not_enough(tmp_path, monkeypatch, capsys):
    """Oracle: the bars, which no network reaches in an epoch; and the second step leaves the detector as it was."""
    monkeypatch.setattr(detr_overfit, "EPOCHS", {"detector": 1, "masks": 1})
    assert detr_overfit.main([str(tmp_path / "detr")]) == 1
    printed = capsys.readouterr().out
    assert "box AP 0." in printed and "0 of the detector's" in printed
