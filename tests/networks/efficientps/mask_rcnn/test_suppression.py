"""Suppression in one call and of many groups at once, against torchvision's loop over the boxes."""

import pytest
import torch
from torchvision.ops import boxes as torchvision_boxes
from torchvision.ops import nms

from efficientps.networks.efficientps.mask_rcnn import suppression
from efficientps.networks.efficientps.mask_rcnn.region_proposals import suppress_one_by_one, suppress_together
from efficientps.networks.efficientps.mask_rcnn.suppression import nms_of_shifted_groups, nms_of_sorted_groups
from tests.networks.efficientps.mask_rcnn.test_pyramid_roi_align import random_boxes
from tests.sweep import sweep


def crowded_boxes(number: int) -> torch.Tensor:
    """Boxes around a few places, so that most overlap many others."""
    centres, sizes = torch.rand(6, 2) * 300, 30 + torch.rand(6, 2) * 100
    place = torch.randint(0, 6, (number,))
    half = sizes[place] * (torch.randn(number, 2) * 0.1).exp() / 2
    centre = centres[place] + torch.randn(number, 2) * 0.1 * sizes[place]
    return torch.cat([centre - half, centre + half], dim=1)


def a_chain(number: int) -> torch.Tensor:
    """Boxes of which each overlaps its neighbours only: every second one stays."""
    x = torch.arange(float(number))[:, None] * 4
    return torch.cat([x, torch.zeros_like(x), x + 10, torch.ones_like(x)], dim=1)


@sweep("seed", range(3))
def test_shifted_groups(seed):
    """Oracle: torchvision's own shift of the groups."""
    torch.manual_seed(seed)
    boxes, scores, groups = crowded_boxes(300), torch.rand(300), torch.randint(0, 5, (300,))
    expected = torchvision_boxes._batched_nms_coordinate_trick(boxes, scores, groups, 0.5)
    assert torch.equal(nms_of_shifted_groups(boxes, scores, groups, 0.5), expected)
    assert len(nms_of_shifted_groups(boxes[:0], scores[:0], groups[:0], 0.5)) == 0


@sweep("pairs_at_a_time", [2**24, 200 * 200])
@sweep("iou_thresh", [0.4, 0.7])
def test_sorted_groups(iou_thresh, pairs_at_a_time, monkeypatch):
    """Oracle: torchvision's greedy loop over each group; among the groups a chain longer than one look's rounds."""
    monkeypatch.setattr(suppression, "_PAIRS_AT_A_TIME", pairs_at_a_time)
    torch.manual_seed(0)
    boxes = torch.stack([crowded_boxes(200), random_boxes(200, 90, 200), a_chain(200), a_chain(200)])
    valid = torch.rand(4, 200) < torch.tensor([0.8, 1.0, 1.0, 0.0])[:, None]
    kept, numbers = nms_of_sorted_groups(boxes, valid, iou_thresh)
    for group, group_valid, stays, number in zip(boxes, valid, kept, numbers, strict=True):
        places = group_valid.nonzero().squeeze(1)
        expected = nms(group[places], torch.arange(len(places), 0.0, -1), iou_thresh)
        assert torch.equal(stays.nonzero().squeeze(1), places[expected])
        assert number == len(expected)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("per_level", [[150, 150, 150], [200, 90, 7]])
def test_images_together_equal_images_one_by_one(per_level, device):
    """Oracle: torchvision's suppression of each image; an image with few valid boxes, and one without any."""
    torch.manual_seed(0)
    number = sum(per_level)
    boxes = torch.stack([crowded_boxes(number) for _ in range(3)])
    scores = torch.cat([torch.randn(3, count).sort(dim=1, descending=True).values for count in per_level], dim=1)
    valid = torch.rand(3, number) < torch.tensor([0.9, 0.02, 0.0])[:, None]
    for most in (40, 1000):
        expected = suppress_one_by_one(scores, boxes, valid, per_level, 0.6, most)
        found = suppress_together(scores.to(device), boxes.to(device), valid.to(device), per_level, 0.6, most)
        for image, reference in zip(found, expected, strict=True):
            assert torch.equal(image.cpu(), reference)
