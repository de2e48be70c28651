import pytest

from benchmarks.growth import draw
from benchmarks.report import Report
from benchmarks.timing import Timing


def test_plot_is_drawn(tmp_path):
    # Oracle: smoke test; a PNG file of three quantities.
    pytest.importorskip("matplotlib")
    report = Report("growth", {})
    for quantity in ("batch", "pixels", "instances"):
        for amount in (1, 2, 4):
            report.add(f"{amount} {quantity}", {quantity: Timing(amount, amount, amount, amount, 1)}, {})
    draw(report, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
