"""The losses against transformers' criterion, and the targets against hand-worked ones."""

import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.ops import generalized_box_iou_loss
from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

from efficientps.networks.detr.losses import (
    _giou_loss,
    box_losses,
    class_loss,
    mask_losses,
    matched_labels,
    matched_masks,
)
from efficientps.networks.detr.matcher import match
from tests.networks.detr.test_matcher import CLASSES, as_dicts, random_predictions, random_targets
from tests.sweep import sweep


@sweep("numbers", [[3, 5], [0, 4], [0, 0]])
def test_equal_transformers(numbers):
    generator = torch.Generator().manual_seed(10 + sum(numbers))
    targets = random_targets(numbers, generator)
    logits, boxes = random_predictions(1, 2, 7, generator)
    masks = torch.randn(2, 7, 2, 3, generator=generator)
    criterion = ImageLoss(HungarianMatcher(1, 5, 2), CLASSES, 0.1, ["labels", "boxes", "masks"])
    outputs = {"logits": logits[0], "pred_boxes": boxes[0], "pred_masks": masks}
    expected = criterion(outputs, as_dicts(targets))

    (matches,) = match(logits, boxes, targets)
    number = max(sum(numbers), 1)
    labels = matched_labels(matches, targets, logits.shape[1:3], no_object=CLASSES)
    weights = torch.tensor([1.0] * CLASSES + [0.1])
    classes = class_loss(logits[0], labels, weights) / weights[labels].sum()
    l1, giou = box_losses(boxes[0], matches, targets)
    found = masks[matches.images, matches.queries]
    found = interpolate(found[:, None], size=(8, 12), mode="bilinear")[:, 0]
    focal, dice = mask_losses(found, matched_masks(matches, targets))
    for ours, name, factor in (
        (classes, "loss_ce", 1),
        (l1 / number, "loss_bbox", 5),
        (giou / number, "loss_giou", 2),
        (focal / number, "loss_mask", 1),
        (dice / number, "loss_dice", 1),
    ):
        assert ours.item() == pytest.approx(factor * expected[name].item(), rel=1e-5, abs=1e-6), name


def test_giou_is_that_of_torchvision():
    # Oracle: torchvision's loss and its gradients, bit by bit; boxes that meet, touch, are apart, or have no extent.
    generator = torch.Generator().manual_seed(6)
    boxes, others = torch.rand(2, 200, 4, generator=generator)
    boxes[:, 2:] += boxes[:, :2] * (torch.arange(200) % 3)[:, None]
    others[:20] = boxes[:20]
    others[20:40, :2], others[40:50, 2:] = boxes[20:40, 2:], others[40:50, :2]
    results = []
    for loss in (_giou_loss, generalized_box_iou_loss):
        given = boxes.clone().requires_grad_()
        of_pairs = loss(given, others)
        of_pairs.sum().backward()
        results.append((of_pairs.detach(), of_pairs.sum().detach(), given.grad))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_dice_by_hand():
    # Oracle: probabilities 0.5 on two of four pixels, 0 elsewhere; a mask of one: 1 - (2 * 0.5 + 1) / (1 + 1 + 1).
    logits = torch.tensor([[[0.0, 0.0], [-99.0, -99.0]]])
    _, dice = mask_losses(logits, torch.tensor([[[True, False], [False, False]]]))
    assert dice == pytest.approx(1 - 2 / 3)
