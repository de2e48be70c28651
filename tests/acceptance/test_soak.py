"""The script that watches a long training: what it concludes, by hand, and a short run of it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.soak import Growth, Use

SCRIPT = Path(__file__).resolve().parents[0] / "soak.py"


@pytest.mark.parametrize(
    ("resident", "files", "allowed"),
    [
        (1019, 118, True),
        (981, 118, True),
        (1021, 118, False),
        (979, 118, False),
        (1000, 119, False),
        (1000, 117, False),
    ],
)
def test_two_percent_of_memory_and_no_file(resident, files, allowed):
    growth = Growth.between(Use(300, 1000, 5, 118), Use(3000, resident, 500, files))
    assert growth == (pytest.approx(resident / 1000 - 1), files - 118)
    assert growth.is_allowed is allowed


@pytest.mark.slow
@pytest.mark.parametrize("head", ["MaskRCNNHead", "SOLOv2Head"])
def test_a_short_run(head):
    """Its process has two loading processes; all three are looked at twice."""
    words = [sys.executable, str(SCRIPT), "--steps", "6", "--interval", "3", "--head", head]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    rows = [line.split() for line in done.stdout.splitlines() if re.fullmatch(r"[ \d.]+", line)]
    assert [row[0] for row in rows] == ["3", "6"], done.stdout + done.stderr
    assert all(float(row[1]) > 100 and float(row[2]) > 100 and int(row[3]) > 10 for row in rows)
    conclusion = re.search(r"From step 3 to 6: memory ([+-][\d.]+) %, open files ([+-]\d+)", done.stdout)
    assert conclusion is not None
    assert done.returncode == (0 if abs(float(conclusion[1])) <= 2 and int(conclusion[2]) == 0 else 1)
