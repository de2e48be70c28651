"""The figures of an evaluation, against hand-worked scenes."""

import json
import warnings

import pytest
import torch

from efficientps.metrics.evaluator import Evaluator
from efficientps.structures import BoxPredictions, InstancePredictions, PanopticSegmentation, Prediction, Segment
from efficientps.structures.categories import Categories, Category
from tests.sweep import sweep

CATEGORIES = Categories(
    [
        Category(7, "road", (128, 64, 128), is_thing=False),
        Category(23, "sky", (70, 130, 180), is_thing=False),
        Category(26, "car", (0, 0, 142), is_thing=True),
    ]
)


def scene(size=8, *, with_car=True):
    """Sky above road, and a car that covers the lower left quarter."""
    ids = torch.full((size, size), 1, dtype=torch.int32)
    ids[: size // 2] = 2
    segments = [Segment(1, 0, is_thing=False), Segment(2, 1, is_thing=False)]
    if with_car:
        ids[size // 2 :, : size // 2] = 3
        segments.append(Segment(3, 2, is_thing=True))
    return PanopticSegmentation(ids, segments)


def perfect(size=8):
    """The prediction that says exactly what ``scene`` shows."""
    panoptic = scene(size)
    box = torch.tensor([[0, size // 2, size // 2, size]], dtype=torch.float32)
    instances = InstancePredictions(
        scores=torch.tensor([0.9]),
        labels=torch.tensor([0]),
        boxes=box,
        mask_logits=torch.full((1, 4, 4), 9.0),
        mask_frames=box,
    )
    return Prediction(panoptic, (panoptic.segment_ids - 1).to(torch.uint8), instances)


@sweep("size", [8, 16, 4])
def test_perfect_prediction_at_another_size(size):
    # Oracle: hand-worked; quarters stay quarters at every size, so all figures are 1.
    evaluator = Evaluator(CATEGORIES)
    evaluator.update(perfect(size), scene())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a network without boxes is nothing to warn of
        figures = evaluator.compute().figures()
    assert set(figures) == {
        *("PQ", "SQ", "RQ", "PQ_things", "SQ_things", "RQ_things", "PQ_stuff", "SQ_stuff", "RQ_stuff"),
        *("mIoU", "AP", "AP50"),
    }
    assert figures == pytest.approx(dict.fromkeys(figures, 1.0))


def test_boxes_count_where_a_network_has_them():
    # Oracle: hand-worked; the road's box is the lower half, the car's its left half; the sky is not found.
    prediction = perfect(16)
    boxes = torch.tensor([[0.0, 8.0, 16.0, 16.0], [0.0, 8.0, 8.0, 16.0]])
    prediction.boxes = BoxPredictions(torch.tensor([0.9, 0.8]), torch.tensor([0, 2]), boxes)
    target = scene()
    target.segment_ids[4, 7] = target.segment_ids[7, 4] = 1  # the road reaches under the car, to the left edge
    target.segment_ids[5, 0] = 1
    evaluator = Evaluator(CATEGORIES)
    evaluator.update(prediction, target)
    evaluation = evaluator.compute()
    assert evaluation.figures()["box_AP"] == pytest.approx(2 / 3)
    assert evaluation.figures()["box_AP50"] == pytest.approx(2 / 3)
    assert evaluation.as_dict()["box_AP_per_class"] == pytest.approx({"road": 1, "sky": 0, "car": 1})
    assert "box_AP 66.7" in evaluation.table()


def test_a_rank_without_an_image_has_the_boxes_of_the_others():
    # Oracle: invariance; what two ranks gather, one of which saw nothing, is what the other counted.
    prediction = perfect(16)
    prediction.boxes = BoxPredictions(torch.tensor([0.9]), torch.tensor([2]), torch.tensor([[0.0, 8.0, 8.0, 16.0]]))
    idle, busy = Evaluator(CATEGORIES), Evaluator(CATEGORIES)
    busy.update(prediction, scene())
    idle.box.dist_sync_fn = lambda state, group=None: [state, torch.cat(busy.box.records)]
    idle.box.distributed_available_fn = lambda: True
    assert idle.compute().figures()["box_AP"] == busy.compute().figures()["box_AP"] > 0


def test_each_figure_comes_from_its_own_output():
    # Oracle: hand-worked; only one output is spoilt at a time, and only its figures fall.
    spoilt = perfect()
    spoilt.semantic.zero_()
    evaluator = Evaluator(CATEGORIES)
    evaluator.update(spoilt, scene())
    figures = evaluator.compute().figures()
    assert (figures["PQ"], figures["AP"]) == pytest.approx((1, 1))
    assert figures["mIoU"] == pytest.approx(0.25 / 3)  # road: 16 of 64 pixels; sky and car: none

    evaluator.reset()
    spoilt = perfect()
    spoilt.instances = spoilt.instances[:0]
    evaluator.update(spoilt, scene())
    figures = evaluator.compute().figures()
    assert (figures["PQ"], figures["mIoU"], figures["AP"]) == pytest.approx((1, 1, 0))


@pytest.mark.gpu
@pytest.mark.parametrize("truth", ["cpu", "cuda"])
def test_a_device_counts_what_the_cpu_counts(truth):
    # Oracle: the same image on the CPU; predictions on the device, ground truth there or on the host.
    def counted(device, truth):
        prediction, target = perfect(16), scene(16)
        prediction.panoptic.segment_ids[8:, 7:10] = 1
        prediction.semantic[:, 3:5] = 1
        boxes = torch.tensor([[0.0, 8.0, 16.0, 16.0], [0.0, 8.0, 8.0, 16.0]])
        prediction.boxes = BoxPredictions(torch.tensor([0.9, 0.8]), torch.tensor([0, 2]), boxes)
        evaluator = Evaluator(CATEGORIES).to(device)
        for field in (prediction.instances, prediction.boxes, prediction.panoptic, prediction, target):
            for name, value in vars(field).items():
                if isinstance(value, torch.Tensor):
                    setattr(field, name, value.to(truth if field is target else device))
        evaluator.update(prediction, target)
        return evaluator.compute().as_dict()

    assert counted("cuda", truth) == counted("cpu", "cpu")


def test_reset_forgets():
    evaluator = Evaluator(CATEGORIES)
    evaluator.update(perfect(), scene(with_car=False))
    evaluator.reset()
    evaluator.update(perfect(), scene())
    assert evaluator.compute().figures()["PQ"] == pytest.approx(1)


def test_a_perfect_prediction_has_a_table_of_hundreds():
    # Oracle: hand-worked; all three classes are found.
    evaluator = Evaluator(CATEGORIES)
    evaluator.update(perfect(), scene())
    evaluation = evaluator.compute()
    assert evaluation.table().splitlines()[1:] == [
        "All     100.0  100.0  100.0      3",
        "Things  100.0  100.0  100.0      1",
        "Stuff   100.0  100.0  100.0      2",
        "mIoU 100.0   AP 100.0   AP50 100.0",
    ]
    assert "sky" not in evaluation.table()
    assert "sky" in evaluation.table(per_class=True)


def test_json_holds_every_figure_and_no_nan():
    # Oracle: hand-worked; the car never occurs, so its IoU and AP are unknown.
    evaluator = Evaluator(CATEGORIES)
    prediction = perfect()
    target = scene(with_car=False)
    prediction.panoptic = target
    prediction.semantic = (target.segment_ids - 1).to(torch.uint8)
    evaluator.update(prediction, target)
    figures = json.loads(json.dumps(evaluator.compute().as_dict(), allow_nan=False))
    assert figures["IoU"] == {"road": 1.0, "sky": 1.0, "car": None}
    assert figures["AP_per_class"] == {"car": None}
    assert figures["panoptic_quality"]["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}
    assert figures["panoptic_quality"]["Things"]["n"] == 0
    assert (figures["mIoU"], figures["AP"], figures["AP50"]) == (1.0, 0.0, 0.0)


def test_metrics_are_no_part_of_a_checkpoint():
    evaluator = Evaluator(CATEGORIES)
    evaluator.update(perfect(), scene())
    assert evaluator.state_dict() == {}
