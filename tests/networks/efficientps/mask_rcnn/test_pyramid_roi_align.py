"""RoIAlign over a pyramid against torchvision's multi-scale pooler."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

from efficientps.networks.efficientps.mask_rcnn.pyramid_roi_align import align_all, assign_levels, pyramid_roi_align
from efficientps.structures import STRIDES, FeaturePyramid


def random_boxes(number: int, height: int, width: int) -> torch.Tensor:
    corners = torch.rand(number, 2, 2) * torch.tensor([width, height])
    return torch.cat([corners.amin(1), corners.amax(1) + 1], dim=1)


def test_equals_torchvision_without_alignment():
    """Oracle: torchvision's MultiScaleRoIAlign, which cannot align."""
    pyramid = FeaturePyramid(*(torch.randn(2, 5, 128 // s, 256 // s) for s in (4, 8, 16, 32)))
    boxes = [random_boxes(40, 128, 256), random_boxes(3, 128, 256)]
    pooler = MultiScaleRoIAlign(["p4", "p8", "p16", "p32"], 7, 2)
    expected = pooler(pyramid._asdict(), boxes, [(128, 256)] * 2)
    torch.testing.assert_close(pyramid_roi_align(pyramid, boxes, output_size=7, aligned=False), expected)


def test_alignment_reads_pixel_centres():
    """Oracle: hand-worked; of a map that counts columns, a box over columns 1 and 2 averages 1 and 2."""
    columns = torch.arange(8.0).expand(1, 1, 8, 8)
    pyramid = FeaturePyramid(columns, *(columns[..., ::s, ::s] for s in (2, 4, 8)))
    boxes = [torch.tensor([[4.0, 4.0, 12.0, 12.0]])]
    pooled = pyramid_roi_align(pyramid, boxes, output_size=2)
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[1.0, 2.0], [1.0, 2.0]]))


def test_no_box_at_all_stays_in_the_graph():
    features = [torch.randn(1, 5, 64 // s, 64 // s, requires_grad=True) for s in (4, 8, 16, 32)]
    pooled = pyramid_roi_align(FeaturePyramid(*features), [torch.zeros(0, 4)], output_size=7)
    assert pooled.shape == (0, 5, 7, 7)
    pooled.sum().backward()
    assert all(f.grad is not None for f in features)


def test_levels_double_with_the_side():
    """Oracle: Eq. 1 of the FPN paper at the borders between levels."""
    sides = torch.tensor([10.0, 111.0, 113.0, 223.0, 225.0, 447.0, 449.0, 2000.0])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    assert assign_levels(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sides", ["all", "small", "huge", "none"])
def test_pooling_of_all_boxes_on_every_level(sides, aligned, device):
    """Oracle: torchvision's kernel on each level's own boxes, gradients included; boxes reach out of the image."""
    torch.manual_seed(0)
    number = 0 if sides == "none" else 50
    corners = torch.rand(number, 2) * torch.tensor([300.0, 170.0]) - 40
    low, high = {"small": (5, 40), "huge": (500, 900)}.get(sides, (5, 600))
    boxes = torch.cat([corners, corners + low + torch.rand(number, 2) * (high - low)], dim=1)
    rois = torch.cat([torch.randint(0, 2, (number, 1)).float(), boxes], dim=1).to(device)
    levels = assign_levels(rois[:, 1:])
    if sides == "all":
        assert set(levels.tolist()) == {0, 1, 2, 3}
    ours = [torch.randn(2, 5, 128 // s, 256 // s, device=device, requires_grad=True) for s in STRIDES]
    theirs = [f.detach().clone().requires_grad_() for f in ours]
    found = align_all(ours, rois, levels, output_size=7, sampling_ratio=2, aligned=aligned)
    expected = torch.zeros_like(found)
    for level, (features, stride) in enumerate(zip(theirs, STRIDES, strict=True)):
        values = roi_align(features, rois[levels == level], 7, 1 / stride, 2, aligned)
        expected = expected.index_put((levels == level,), values)
    assert torch.equal(found, expected)
    gradient = torch.randn_like(found)
    found.backward(gradient)
    expected.backward(gradient)
    for f, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(f.grad, reference.grad, **({"rtol": 0, "atol": 0} if device == "cpu" else {}))
