"""The matcher against transformers' and against all permutations."""

from itertools import permutations

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou
from transformers.loss.loss_for_object_detection import HungarianMatcher

from efficientps.networks.detr.matcher import _costs_of_images, match
from efficientps.networks.queries.targets import SegmentTargets
from tests.sweep import sweep

CLASSES = 5


def random_targets(numbers, generator):
    targets = []
    for number in numbers:
        extent = torch.rand(number, 2, generator=generator) * 0.5 + 0.02
        centre = extent / 2 + torch.rand(number, 2, generator=generator) * (1 - extent)
        labels = torch.randint(0, CLASSES, (number,), generator=generator)
        masks = torch.rand(number, 8, 12, generator=generator) > 0.6
        targets.append(SegmentTargets(labels, torch.cat([centre, extent], dim=1), masks))
    return targets


def random_predictions(layers, batch, queries, generator):
    logits = 3 * torch.randn(layers, batch, queries, CLASSES + 1, generator=generator)
    return logits, torch.rand(layers, batch, queries, 4, generator=generator)


def as_dicts(targets):
    return [{"class_labels": t.labels, "boxes": t.boxes, "masks": t.masks.float()} for t in targets]


@sweep("numbers", [[3, 5], [0, 4], [7, 7], [0, 0]])
def test_equals_transformers(numbers):
    generator = torch.Generator().manual_seed(sum(numbers))
    targets = random_targets(numbers, generator)
    logits, boxes = random_predictions(3, 2, 7, generator)
    reference = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    for layer, found in enumerate(match(logits, boxes, targets)):
        pairs = reference({"logits": logits[layer], "pred_boxes": boxes[layer]}, as_dicts(targets))
        assert found.images.tolist() == [image for image, (queries, _) in enumerate(pairs) for _ in queries]
        assert found.queries.tolist() == [int(query) for queries, _ in pairs for query in queries]
        assert found.segments.tolist() == [int(segment) for _, segments in pairs for segment in segments]


def test_rows_count_through_the_images():
    # Oracle: the tensors of the images, one by one.
    generator = torch.Generator().manual_seed(4)
    targets = random_targets([2, 0, 5], generator)
    for found in match(*random_predictions(2, 3, 6, generator), targets):
        rows = torch.cat([target.boxes for target in targets])[found.rows]
        one_by_one = [targets[i].boxes[s] for i, s in zip(found.images.tolist(), found.segments.tolist(), strict=True)]
        assert torch.equal(rows, torch.stack(one_by_one))


@pytest.mark.gpu
def test_a_device_matches_what_the_cpu_matches():
    # Oracle: the CPU, image by image.
    generator = torch.Generator().manual_seed(5)
    targets = random_targets([3, 0, 6], generator)
    logits, boxes = random_predictions(2, 3, 7, generator)
    moved = [SegmentTargets(*(tensor.cuda() for tensor in target)) for target in targets]
    costs = _costs_of_images(logits.cuda().softmax(dim=-1), boxes.cuda(), moved)
    for cost, expected in zip(costs, _costs_of_images(logits.softmax(dim=-1), boxes, targets), strict=True):
        torch.testing.assert_close(cost.cpu(), expected)
    for found, expected in zip(match(logits.cuda(), boxes.cuda(), moved), match(logits, boxes, targets), strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))


def test_no_assignment_costs_less():
    # Oracle: every permutation, with the published costs written out.
    generator = torch.Generator().manual_seed(1)
    (target,) = random_targets([3], generator)
    logits, boxes = random_predictions(1, 1, 5, generator)

    def cost(query, segment):
        giou = generalized_box_iou(
            box_convert(boxes[0, 0, query, None], "cxcywh", "xyxy"),
            box_convert(target.boxes[segment, None], "cxcywh", "xyxy"),
        )
        distance = (boxes[0, 0, query] - target.boxes[segment]).abs().sum()
        return float(5 * distance - 2 * giou - logits[0, 0, query].softmax(0)[target.labels[segment]])

    least = min(sum(cost(q, s) for s, q in enumerate(order)) for order in permutations(range(5), 3))
    (found,) = match(logits, boxes, [target])
    total = sum(cost(q, s) for q, s in zip(found.queries.tolist(), found.segments.tolist(), strict=True))
    assert total == pytest.approx(least)


def test_numbers_that_are_not_finite_do_not_stop_it():
    # The guard against such losses decides what becomes of the step.
    generator = torch.Generator().manual_seed(2)
    targets = random_targets([2], generator)
    logits, boxes = random_predictions(1, 1, 4, generator)
    boxes[0, 0, 1] = float("nan")
    (found,) = match(logits, boxes, targets)
    assert len(found.queries) == 2
    assert 1 not in found.queries.tolist()
