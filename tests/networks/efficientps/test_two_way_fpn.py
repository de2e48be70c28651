"""The two-way FPN against its formula written level by level."""

import pytest
import torch
from torch.nn.functional import interpolate

from efficientps.networks.efficientps.two_way_fpn import TwoWayFPN
from efficientps.structures import FeaturePyramid


def features(channels=(3, 4, 5, 6)) -> FeaturePyramid:
    return FeaturePyramid(*(torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)))


@pytest.mark.parametrize("separable", [True, False])
def test_equals_the_formula(separable):
    """Oracle: the paths of Fig. 2 written out by hand, level by level."""
    neck = TwoWayFPN((3, 4, 5, 6), out_channels=8, separable_output=separable).eval()
    x4, x8, x16, x32 = features()
    down, up, out = neck.top_down_laterals, neck.bottom_up_laterals, neck.outputs
    with torch.no_grad():
        d32 = down[3](x32)
        d16 = down[2](x16) + interpolate(d32, scale_factor=2, mode="nearest")
        d8 = down[1](x8) + interpolate(d16, scale_factor=2, mode="nearest")
        d4 = down[0](x4) + interpolate(d8, scale_factor=2, mode="nearest")
        u4 = up[0](x4)
        u8 = up[1](x8) + u4[:, :, ::2, ::2]
        u16 = up[2](x16) + u8[:, :, ::2, ::2]
        u32 = up[3](x32) + u16[:, :, ::2, ::2]
        expected = [out[0](d4 + u4), out[1](d8 + u8), out[2](d16 + u16), out[3](d32 + u32)]
        pyramid = neck(FeaturePyramid(x4, x8, x16, x32))
    for ours, theirs in zip(pyramid, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_difference_between_the_two_outputs():
    """Oracle: counted by hand: standard minus separable 3x3 at 256 channels, four levels, is 2.09 M."""

    def count(separable: bool) -> int:
        return sum(p.numel() for p in TwoWayFPN((40, 64, 176, 2048), separable_output=separable).parameters())

    assert count(False) - count(True) == 4 * (9 * 256 * 256 - (9 * 256 + 256 * 256))


def test_levels_do_not_share_laterals():
    """Oracle: Fig. 2 has eight laterals."""
    neck = TwoWayFPN((3, 4, 5, 6), out_channels=8)
    weights = [m[0].weight for m in (*neck.top_down_laterals, *neck.bottom_up_laterals)]
    assert len({id(w) for w in weights}) == 8
