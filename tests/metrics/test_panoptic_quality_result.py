import json

import numpy as np
import pytest

from efficientps.metrics.panoptic_quality_result import PanopticQualityResult


def result():
    """Two stuff classes, of which one does not occur, and two things."""
    return PanopticQualityResult.from_counts(
        iou=np.array([1.6, 0.0, 0.75, 0.0]),
        tp=np.array([2, 0, 1, 0]),
        fp=np.array([0, 0, 1, 0]),
        fn=np.array([1, 0, 0, 4]),
        num_stuff=2,
    )


def test_hand_worked_qualities():
    # Oracle: by hand; road: 1.6 / 2.5, things: 0.75 / 1.5 and 0 / 2, the absent class in no mean.
    values = result()
    np.testing.assert_allclose(values.pq, [0.64, 0, 0.5, 0])
    np.testing.assert_allclose(values.sq, [0.8, 0, 0.75, 0])
    np.testing.assert_allclose(values.rq, [0.8, 0, 2 / 3, 0])
    assert values.stuff == pytest.approx((0.64, 0.8, 0.8, 1))
    assert values.things == pytest.approx((0.25, 0.375, 1 / 3, 2))
    assert values.all == pytest.approx((0.38, 1.55 / 3, (0.8 + 2 / 3) / 3, 3))


def test_nothing_counted_is_zero_not_nan():
    # Oracle: by contract; panopticapi would divide by zero.
    nothing = np.zeros(3, dtype=np.int64)
    values = PanopticQualityResult.from_counts(nothing.astype(float), nothing, nothing, nothing, num_stuff=3)
    assert values.all == values.things == values.stuff == (0.0, 0.0, 0.0, 0)
    assert not np.isnan(values.pq).any()


def test_table_of_averages_and_of_classes():
    # Oracle: by hand, the percentages of the first test.
    lines = result().table().splitlines()
    assert [line.split() for line in lines] == [
        ["PQ", "SQ", "RQ", "N"],
        ["All", "38.0", "51.7", "48.9", "3"],
        ["Things", "25.0", "37.5", "33.3", "2"],
        ["Stuff", "64.0", "80.0", "80.0", "1"],
    ]
    table = result().table(["road", "sky", "traffic light", "car"])
    assert ["traffic", "light", "50.0", "75.0", "66.7", "1", "1", "0"] in [line.split() for line in table.splitlines()]
    assert len({len(line) for line in table.splitlines()[:7]}) == 1  # columns are aligned


def test_dictionary_is_plain():
    # Oracle: round trip through JSON, which takes plain types only.
    figures = result().as_dict(["road", "sky", "person", "car"])
    assert json.loads(json.dumps(figures)) == figures
    assert figures["Stuff"] == {"pq": pytest.approx(0.64), "sq": 0.8, "rq": 0.8, "n": 1}
    assert figures["per_class"]["car"] == {"pq": 0, "sq": 0, "rq": 0, "iou": 0, "tp": 0, "fp": 0, "fn": 4}
    assert set(result().as_dict()["per_class"]) == {"0", "1", "2", "3"}


def test_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match="zip"):
        result().table(["road"])
