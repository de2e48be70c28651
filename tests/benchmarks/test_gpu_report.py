import json
import subprocess
import sys

import pytest

from benchmarks.gpu_report import ROOT, add_step, finish_report

REPORT = {
    "benchmark": "train",
    "commit": "1234567",
    "machine": {"gpu": "NVIDIA H100 80GB HBM3"},
    "options": {"size": [512, 1024]},
    "rows": [{"case": "batch 1", "side": "ours", "timing": {"seconds": 0.02}, "figures": {"peak_mb": 12.5}}],
    "bars": [
        {"claim": "share", "value": 0.7, "relation": "<=", "limit": 0.5, "reached": False},
        {"claim": "loss", "value": 0.1, "relation": "<=", "limit": 0.5, "reached": True},
    ],
    "skipped": ["Mask2Former: No module named 'transformers'"],
}


@pytest.fixture
def folder(tmp_path):
    """A report of two steps: one that ran out of time after a side, and one that said nothing."""
    (tmp_path / "train.json").write_text(json.dumps(REPORT))
    (tmp_path / "train.log").write_text("first line\nlast line\n")
    paths = {"log": tmp_path / "train.log", "report": tmp_path / "train.json"}
    add_step(tmp_path, "B", "train", code=124, seconds=60, **paths)
    add_step(tmp_path, "B", "pq", code=-1, seconds=0, log=tmp_path / "none", report=tmp_path / "none")
    return tmp_path


def test_what_a_step_has_measured_is_kept_as_it_ends(folder):
    # Oracle: by hand.
    first, second = (folder / "summary_B.txt").read_text().splitlines()
    assert first.split(": ", 1)[0] == "train            out of time, 60 s"
    for part in (
        "1 of 2 bars reached",
        "MISSED share 0.7 (<= 0.5)",
        "LEFT OUT Mask2Former",
        "batch 1, ours: 20.0 ms, peak_mb 12.5",
    ):
        assert part in first
    assert second == "pq               skipped, 0 s"
    assert "last line" in (folder / "log_B.txt").read_text()
    assert not (folder / "train.json").exists()


def test_all_figures_are_in_one_report_named_after_the_card(folder):
    # Oracle: by hand; the summary of the benchmarks reads it.
    from benchmarks.summary import markdown

    path = finish_report(folder)
    report = json.loads(path.read_text())
    assert path.name == "cuda_h100.json" and report["rows"][0]["case"] == "train: batch 1"
    assert [step["outcome"] for step in report["steps"]] == ["out of time", "skipped"]
    report["machine"] = {**report["machine"], "torch_threads": 1, "packages": {"torch": "2.11"}}
    for row in report["rows"]:
        row["timing"] |= {"low": 0.02, "high": 0.02}
    path.write_text(json.dumps(report))
    assert "| share | 0.7 | <= 0.5 | **no** | cuda_h100.json |" in markdown([path])


def test_it_needs_the_standard_library_alone():
    # Oracle: an interpreter that finds no other package.
    script = ROOT / "benchmarks/gpu_report.py"
    subprocess.run([sys.executable, "-I", "-S", script, "--help"], check=True, capture_output=True)
