"""Matches by overlap against torchvision's."""

import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from efficientps.networks.efficientps.mask_rcnn.matching import BACKGROUND, match_boxes
from tests.networks.efficientps.mask_rcnn.test_pyramid_roi_align import random_boxes
from tests.sweep import sweep


@sweep("each_object_has_one", [False, True])
@sweep("seed", range(4))
def test_equals_torchvision(seed, each_object_has_one):
    """Oracle: torchvision's Matcher; among the objects one that no box overlaps, and two that share their boxes."""
    torch.manual_seed(seed)
    objects, boxes = random_boxes(8, 60, 90), random_boxes(500, 60, 90)
    objects = torch.cat([objects, objects[:1], torch.tensor([[500.0, 500.0, 520.0, 520.0]])[: seed % 2]])
    expected = Matcher(0.6, 0.3, each_object_has_one)(box_iou(objects, boxes))
    found = match_boxes(objects, boxes, positive_iou=0.6, negative_iou=0.3, each_object_has_one=each_object_has_one)
    assert torch.equal(found, expected)


def test_without_an_object_everything_is_background():
    found = match_boxes(torch.zeros(0, 4), torch.rand(5, 4), positive_iou=0.5, negative_iou=0.5)
    assert found.tolist() == [BACKGROUND] * 5
