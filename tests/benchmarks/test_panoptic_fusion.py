from benchmarks.panoptic_fusion import run


def test_both_implementations_agree_and_have_bars():
    # Oracle: the two sides agree, and there is a bar for each number of instances that has one.
    report = run(size=(128, 256), instances=(5, 30, 100), rounds=1)
    assert [(row.case, row.side) for row in report.rows[:2]] == [
        ("5 instances", "EfficientPS"),
        ("5 instances", "full canvases"),
    ]
    assert report.rows[0].figures["share_of_pixels_that_differ"] < 1e-3
    assert [bar.limit for bar in report.bars] == [10.0, 150.0]
