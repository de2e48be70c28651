import pytest

from benchmarks import launches


@pytest.mark.slow
def test_parts_add_up_to_the_whole():
    # Oracle: sums; the demo is small enough to be counted in seconds.
    report = launches.run(size=(64, 128), step_size=(64, 128), names=["demo"], instances=3)
    assert not report.skipped
    cases = {case: [row for row in report.rows if row.case == case] for case in {row.case for row in report.rows}}
    assert len(cases) == 3
    for whole, *parts in cases.values():
        assert whole.side == "demo" and whole.figures["launches"] > 0
        for key, value in whole.figures.items():
            assert value == sum(part.figures[key] for part in parts)
    step = {row.side for row in cases["training step 64x128"]}
    assert {"demo, backbone", "demo, neck", "demo, semantic head", "demo, instance head", "demo, backward"} <= step
