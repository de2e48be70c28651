"""Boxes around masks at the size of the image."""

import torch
from torch.nn.functional import interpolate

from efficientps.networks.efficientps.solov2.tight_boxes import tight_boxes
from efficientps.structures import InstancePredictions
from tests.sweep import sweep


@sweep("seed", range(8))
@sweep("level", [0.8, 2.5])
def test_boxes_are_tight_around_the_rendered_masks(seed, level):
    """Oracle: the positive pixels of each mask as the fusion renders it; the canvas is larger than the image.

    Smooth masks, and at the higher level lonely cells, some of which are positive at no pixel.
    """
    torch.manual_seed(seed)
    size = (61, 125)
    coarse = torch.randn(60, 1, 5, 9) - 0.8
    mask_logits = interpolate(coarse, size=(16, 32), mode="bilinear")[:, 0]
    mask_logits[30:] = torch.randn(30, 16, 32) - level
    mask_logits[40] = torch.where(torch.rand(16, 32) < 0.02, 1e-3, -9.0)
    mask_logits[41:44] = -1.0
    mask_logits[41, 15, 31] = mask_logits[42, 0, 0] = 5.0
    boxes = tight_boxes(mask_logits, size)
    frames = torch.tensor([0.0, 0, 128, 64]).expand(60, 4)
    instances = InstancePredictions(torch.ones(60), torch.zeros(60).long(), boxes, mask_logits, frames)
    for index in range(60):
        rows, columns = (instances.render(index, (0, 0, size[1], size[0])) > 0).nonzero().unbind(dim=1)
        if len(rows) == 0:
            assert boxes[index].tolist() == [0, 0, 0, 0]
        else:
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert boxes[index].tolist() == [float(value) for value in expected]
    assert (boxes[:, 2] > 0).sum() > 30
    assert boxes[43].tolist() == [0, 0, 0, 0]
