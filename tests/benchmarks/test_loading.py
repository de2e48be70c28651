import pytest

from benchmarks.loading import run


def test_both_crops_and_the_cache_are_measured():
    # Oracle: by contract; both crops, three sides each, and the disk cost of both forms.
    pytest.importorskip("blosc2")
    report = run(size=(128, 256), rounds=2)
    assert [row.case for row in report.rows] == ["crops of 64x128"] * 3 + ["crops of 128x256"] * 3 + ["disk"] * 2
    rates = [row.figures["samples_per_second"] for row in report.rows[:6]]
    assert all(rate == 1 / row.timing.seconds for rate, row in zip(rates, report.rows[:6], strict=True))
    png, cache = (row.figures["mb_per_sample"] for row in report.rows[6:])
    assert 0 < png < 0.2 and 0 < cache < 0.3
    assert len(report.bars) == 4
