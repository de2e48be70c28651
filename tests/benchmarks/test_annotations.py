"""The measurement of commands on large annotation files."""

import sys
import time

import pytest

from benchmarks import annotations
from benchmarks.annotation_set import write_annotation_set
from benchmarks.process_tree import usage_of
from efficientps.data.tools.check_coco import check_coco_panoptic
from scripts.benchmark import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of processes")

HELD = 100
"""Megabytes that each process of ``HOLD`` fills."""

HOLD = f"""
import os, time
shared = bytearray(b"x") * ({HELD} << 20)
if not os.fork():
    shared.count(0)
    own = bytearray(b"x") * ({HELD} << 20)
    time.sleep(1)
    os._exit(0)
begin = time.process_time()
while time.process_time() - begin < 0.3:
    pass
os.wait()
"""


def test_memory_of_two_processes_counts_what_they_share_once(tmp_path):
    """Oracle: hand-worked; one block of the first process, which both read, and one of the second alone."""
    usage = usage_of([sys.executable, "-c", HOLD], folder=tmp_path)
    assert 2 * HELD <= usage.peak_bytes / 2**20 < 2 * HELD + 40
    assert usage.seconds > 1 and 0.3 <= usage.cpu_seconds < 1.5


def test_a_command_is_ended_at_its_sign_and_a_failure_tells_its_last_line(tmp_path):
    """Oracle: definition."""
    sign = tmp_path / "sign"
    code = f"import time; open({str(sign)!r}, 'w').close(); time.sleep(600)"
    begin = time.monotonic()
    usage_of([sys.executable, "-c", code], folder=tmp_path, until=sign)
    assert time.monotonic() - begin < 60
    with pytest.raises(ValueError, match=r"ended with code 1: ValueError: no such thing$"):
        usage_of([sys.executable, "-c", "raise ValueError('no such thing')"], folder=tmp_path)
    with pytest.raises(ValueError, match="ended with code 0"):
        usage_of([sys.executable, "-c", ""], folder=tmp_path, until=tmp_path / "never")


def test_the_set_has_its_numbers_and_no_fault(tmp_path):
    """Oracle: the check of this project."""
    path = write_annotation_set(tmp_path / "set", images=9, segments=40)
    report = check_coco_panoptic(path, tmp_path / "set/maps", tmp_path / "set/images", workers=1)
    assert (report.images, sum(count.segments for count in report.classes)) == (9, 40)
    assert not report.problems and all(remark.startswith("Class 'class ") for remark in report.remarks)
    with pytest.raises(ValueError, match="8 segments in 9 images are not 1 to 32 in each"):
        write_annotation_set(tmp_path / "none", images=9, segments=8)


def test_a_missed_bar_is_an_error(monkeypatch, capsys):
    """Oracle: bars that nothing misses, or misses for certain; an import of torch alone takes more than 100 MB."""
    options = ["annotations", "--images", "40", "--segments", "300", "--commands", "split"]
    monkeypatch.setattr(annotations, "TOOL_SECONDS", 600)
    monkeypatch.setattr(annotations, "TOOL_MB", 100)
    assert main(options) == 1
    printed = capsys.readouterr().out
    assert "split" in printed and "40 images" in printed and "missed: split: MB: " in printed


@pytest.mark.slow
def test_a_tenth_of_the_images_of_coco():
    """Oracle: the bars, whose memory above a tiny set is a tenth, too."""
    report = annotations.run(images=annotations.IMAGES // 10, segments=annotations.SEGMENTS // 10)
    assert [row.case for row in report.rows] == ["fit to its first step"] * 2 + ["check", "split"]
    assert not report.skipped
    values = {bar.claim: bar.value for bar in report.bars}
    assert values["fit: MB above those with 16 images"] < annotations.FIT_EXTRA_MB / 10
    assert all(bar.reached for bar in report.bars if "second" not in bar.claim)
    for row in report.rows:  # of a busy machine, wall-clock time tells nothing
        limit = annotations.FIT_SECONDS * 2 if row.case.startswith("fit") else annotations.TOOL_SECONDS / 2
        assert row.figures["cpu_s"] < limit
