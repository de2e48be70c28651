"""Offsets of boxes, against torchvision's coder, bit by bit."""

import math

import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from efficientps.networks.efficientps.mask_rcnn.box_coding import clip_boxes, decode_boxes, encode_boxes, large_enough
from tests.networks.efficientps.mask_rcnn.test_pyramid_roi_align import random_boxes


def test_equals_torchvision():
    """Oracle: torchvision's BoxCoder, with the weights of the box branch; some boxes reach the largest growth."""
    torch.manual_seed(0)
    references, boxes = random_boxes(999, 500, 900), random_boxes(999, 500, 900)
    deltas, coder = torch.randn(999, 3, 4) * 10, BoxCoder((10.0, 10.0, 5.0, 5.0))
    expected = coder.decode_single(deltas.flatten(1), references).unflatten(1, (3, 4))
    assert torch.equal(decode_boxes(deltas, references[:, None], centre_weight=10.0, size_weight=5.0), expected)
    encoded = encode_boxes(boxes, references, centre_weight=10.0, size_weight=5.0)
    assert torch.equal(encoded, coder.encode_single(boxes, references))


def test_clipping_and_size():
    """Oracle: torchvision's functions, image by image."""
    torch.manual_seed(0)
    boxes = torch.randn(3, 200, 4) * 60
    for sizes in ([(40, 70)] * 3, [(40, 70), (41, 70), (80, 20)]):
        clipped = clip_boxes(boxes, sizes)
        for image, theirs, size in zip(clipped, boxes, sizes, strict=True):
            assert torch.equal(image, clip_boxes_to_image(theirs, size))
            assert torch.equal(large_enough(image, 3.0).nonzero().squeeze(1), remove_small_boxes(image, 3.0))


def test_largest_scale():
    """Oracle: by hand; a side of 2 grows to 3 times its length and no further, around the same centre."""
    references, deltas = torch.tensor([[4.0, 4.0, 6.0, 6.0]]), torch.tensor([[0.0, 0.0, 5.0, math.log(2)]])
    decoded = decode_boxes(deltas, references, centre_weight=1.0, size_weight=1.0, largest_scale=3)
    torch.testing.assert_close(decoded, torch.tensor([[2.0, 3.0, 8.0, 7.0]]))
