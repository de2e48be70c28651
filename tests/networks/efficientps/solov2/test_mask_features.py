"""The branch of the mask features."""

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from efficientps.layers.norm_act import GroupNormReLU
from efficientps.networks.efficientps.solov2.coordinates import append_maps, coordinates, fourier_features
from efficientps.networks.efficientps.solov2.mask_features import MaskFeatureBranch
from efficientps.structures import FeaturePyramid


@pytest.mark.parametrize("octaves", [0, 3])
def test_the_levels_are_added_at_stride_4(octaves):
    """Oracle: the sum written out level by level."""
    torch.manual_seed(0)
    branch = MaskFeatureBranch(8, 32, hidden=32, norm_act=GroupNormReLU, fourier_octaves=octaves)
    p = FeaturePyramid(*(torch.randn(2, 8, 64 // s, 128 // s) for s in (4, 8, 16, 32)))

    def up(x: torch.Tensor) -> torch.Tensor:
        return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    b = branch
    places = coordinates(*p.p32.shape[-2:], torch.float32, device=p.p32.device)
    expected = b.p4[0](p.p4) + up(b.p8[0](p.p8)) + up(b.p16[1](up(b.p16[0](p.p16))))
    expected = expected + up(b.p32[2](up(b.p32[1](up(b.p32[0](append_maps(p.p32, places)))))))
    waves = fourier_features(*expected.shape[-2:], octaves, torch.float32, device=expected.device)
    expected = b.project(append_maps(expected, waves))
    result = branch(p)
    torch.testing.assert_close(result, expected)
    assert result.shape == (2, 32, 16, 32)
    assert result.min() >= 0  # the last layer is a ReLU
    result.sum().backward()  # nothing that the backward pass needs was changed in place


@pytest.mark.parametrize(("kernel_channels", "millions"), [(256, 1.66), (128, 1.64)])
def test_published_size(kernel_channels, millions):
    """Oracle: counts of the published branch, 128 hidden channels on 256."""
    branch = MaskFeatureBranch(256, kernel_channels, hidden=128, norm_act=GroupNormReLU)
    count = sum(p.numel() for p in branch.parameters())
    convs = (4 * 256 + 3 * 128 + 2) * 128 * 9 + 128 * kernel_channels
    assert count == convs + 2 * (7 * 128 + kernel_channels)
    assert round(count / 1e6, 2) == millions


def test_norm_is_a_choice():
    """Oracle: construction; no group norm is left."""
    branch = MaskFeatureBranch(8, 8, hidden=4, norm_act=nn.BatchNorm2d)
    assert not [m for m in branch.modules() if isinstance(m, nn.GroupNorm)]
