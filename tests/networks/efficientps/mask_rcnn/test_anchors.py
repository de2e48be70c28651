"""The anchors of a pyramid, and what is kept of them."""

import copy
import pickle

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from efficientps.networks.efficientps.mask_rcnn.anchors import PyramidAnchors

CPU = torch.device("cpu")


def grids(height: int, width: int) -> list[tuple[int, int]]:
    return [(height // s, width // s) for s in (4, 8, 16, 32)]


def anchors() -> PyramidAnchors:
    return PyramidAnchors((32, 64, 128, 256), strides=(4, 8, 16, 32))


def test_equal_torchvisions():
    """Oracle: torchvision's AnchorGenerator over an image of the size."""
    theirs = AnchorGenerator(((32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 4)
    maps = [torch.zeros(1, 1, *grid) for grid in grids(96, 160)]
    expected = theirs(ImageList(torch.zeros(1, 3, 96, 160), [(96, 160)]), maps)[0]
    assert torch.equal(anchors()(grids(96, 160), CPU), expected)


def test_a_few_layouts_are_kept():
    """Of a size that comes again nothing is laid out again; of many sizes no more than four are held."""
    ours = anchors()
    first = ours(grids(32, 64), CPU)
    assert ours(grids(32, 64), CPU) is first
    for width in range(96, 320, 32):
        assert len(ours(grids(32, width), CPU)) == 3 * sum(h * w for h, w in grids(32, width))
    assert len(ours._kept) == 4


def test_what_is_kept_goes_nowhere():
    """It is not in the state dict, not in a copy, not in a pickle, and not there any more after a move."""
    ours = anchors()
    expected = ours(grids(32, 64), CPU)
    assert ours.state_dict() == {}
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert copied._kept == {} and torch.equal(copied(grids(32, 64), CPU), expected)
    assert len(ours._kept) == 1 and ours.to("meta")._kept == {}
    assert ours(grids(32, 64), torch.device("meta")).is_meta


def test_anchors_of_a_validation_serve_a_training():
    """Tensors of inference mode could not."""
    ours = anchors()
    with torch.inference_mode():
        ours(grids(32, 64), CPU)
    assert not ours(grids(32, 64), CPU).is_inference()
