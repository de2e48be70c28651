"""RoIAlign by weighted sums against torchvision's kernel."""

import torch
from torchvision.ops import roi_align

from efficientps.networks.efficientps.mask_rcnn.cpu_roi_align import roi_align_channels_last
from tests.sweep import sweep


@sweep("memory_format", [torch.contiguous_format, torch.channels_last])
@sweep("output_size, sampling_ratio", [(7, 2), (14, 2), (3, 1)])
def test_equals_torchvision(output_size, sampling_ratio, memory_format):
    """Oracle: torchvision.ops.roi_align with aligned=True; boxes inside, beyond every border, tiny and huge."""
    features = torch.randn(2, 5, 12, 20, dtype=torch.double).to(memory_format=memory_format)
    corners = torch.rand(60, 2) * torch.tensor([100.0, 60.0]) - 15
    sizes = torch.rand(60, 2) * torch.tensor([70.0, 40.0]) + 0.01
    rois = torch.cat([torch.randint(0, 2, (60, 1)), corners, corners + sizes], dim=1).double()
    rois[0, 1:] = torch.tensor([-50.0, -50.0, 200.0, 200.0]).double()
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    actual = roi_align_channels_last(ours, rois, output_size=output_size, stride=4, sampling_ratio=sampling_ratio)
    expected = roi_align(theirs, rois, output_size, 0.25, sampling_ratio, True)
    torch.testing.assert_close(actual, expected)
    gradient = torch.randn_like(expected)
    actual.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_no_box_at_all():
    features = torch.randn(1, 5, 6, 6, requires_grad=True)
    pooled = roi_align_channels_last(features, torch.zeros(0, 5), output_size=7, stride=4)
    pooled.sum().backward()
    assert pooled.shape == (0, 5, 7, 7)
    assert features.grad.abs().sum() == 0
