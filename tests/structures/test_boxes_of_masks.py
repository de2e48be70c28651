"""Boxes around masks."""

import torch
from torchvision.ops import masks_to_boxes

from efficientps.structures.boxes_of_masks import boxes_of_masks


def test_boxes_enclose_their_masks_half_open():
    """Oracle: torchvision's boxes, which end at the last pixel and not behind it; an empty mask, and no mask at all."""
    torch.manual_seed(0)
    masks = torch.rand(40, 9, 13) < 0.03
    masks[:2] = False
    masks[1, 8, 12] = True
    seen = masks.flatten(1).any(dim=1)
    boxes = boxes_of_masks(masks)
    assert boxes.dtype == torch.float32
    assert torch.equal(boxes[seen], masks_to_boxes(masks[seen]) + torch.tensor([0.0, 0, 1, 1]))
    assert not boxes[~seen].any() and 0 < seen.sum() < 40
    assert boxes_of_masks(masks[:0]).shape == (0, 4)
