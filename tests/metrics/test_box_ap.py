"""Average precision of boxes against torchmetrics' and by hand."""

import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import masks_to_boxes

from efficientps.metrics.box_ap import BoxAP
from efficientps.structures import BoxPredictions, PanopticSegmentation, Segment


def scene(generator):
    """A map of 5 segments in 4 classes, one of them a crowd, and boxes around them that are more or less right."""
    ids = torch.randint(1, 6, (4, 6), generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1).int()
    present = ids.unique().tolist()
    segments = [Segment(i, i % 4, i % 4 > 1, is_crowd=i == 3) for i in present]
    boxes = masks_to_boxes(torch.stack([ids == i for i in present]))
    boxes[:, 2:] += 1
    noise = 4 * torch.randn(2, *boxes.shape, generator=generator)
    found = (boxes + noise).flatten(0, 1)
    found = torch.cat([found[:, :2].minimum(found[:, 2:] - 1), found[:, 2:]], dim=1)
    labels = torch.tensor([s.train_id for s in segments] * 2)
    scores = torch.rand(len(found), generator=generator)
    return BoxPredictions(scores, labels, found), PanopticSegmentation(ids, segments), boxes


def test_equals_torchmetrics():
    # Oracle: torchmetrics with COCO's own evaluation.
    generator = torch.Generator().manual_seed(0)
    metric, reference = BoxAP(num_classes=5), MeanAveragePrecision(iou_type="bbox", class_metrics=True)
    for _ in range(6):
        prediction, target, boxes = scene(generator)
        metric.update([prediction], [target])
        truth = {
            "boxes": boxes,
            "labels": torch.tensor([s.train_id for s in target.segments]),
            "iscrowd": torch.tensor([int(s.is_crowd) for s in target.segments]),
        }
        found = {"boxes": prediction.boxes, "scores": prediction.scores, "labels": prediction.train_ids}
        reference.update([found], [truth])
    result, expected = metric.compute(), reference.compute()
    assert 0.1 < result.ap < 0.9
    assert result.ap == pytest.approx(expected["map"].item(), abs=1e-6)
    assert result.ap50 == pytest.approx(expected["map_50"].item(), abs=1e-6)
    assert result.per_class[:3].tolist() == pytest.approx(expected["map_per_class"].tolist()[:3], abs=1e-6)


def test_boxes_of_stuff_and_things_at_another_size():
    # Oracle: by hand; both boxes are exact in an image of half the size.
    ids = torch.ones(8, 16, dtype=torch.int32)
    ids[2:6, 4:8] = 2
    target = PanopticSegmentation(ids, [Segment(1, 0, False), Segment(2, 1, True)])
    boxes = torch.tensor([[0.0, 0.0, 8.0, 4.0], [2.0, 1.0, 4.0, 3.0]])
    prediction = BoxPredictions(torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), boxes).resize((4, 8), (8, 16))
    metric = BoxAP(num_classes=3)
    metric.update([prediction], [target])
    result = metric.compute()
    assert (result.ap, result.ap50) == pytest.approx((1, 1))
    assert torch.tensor(result.per_class).isnan().tolist() == [False, False, True]


def test_bad_input_is_refused():
    metric = BoxAP(num_classes=2)
    target = PanopticSegmentation(torch.zeros(4, 4, dtype=torch.int32))
    with pytest.raises(ValueError, match="There are 0 predictions for 1 targets"):
        metric.update([], [target])
    one = BoxPredictions(torch.ones(1), torch.tensor([2]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    with pytest.raises(ValueError, match=r"A box has the train_id 2; it must be in 0\.\.1"):
        metric.update([one], [target])
