"""Convolutions with norm and activation."""

import torch
from torch import nn

from efficientps.layers.conv import ConvNormAct, SeparableConv
from tests.sweep import sweep


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_a_separable_conv():
    """Oracle: counted by hand: depthwise 9 per channel, pointwise in x out, norm 2 per channel."""
    assert count(SeparableConv(8, 16)) == 9 * 8 + 8 * 16 + 2 * 16
    assert count(SeparableConv(8, 16, intermediate_norm=True)) == 9 * 8 + 2 * 8 + 8 * 16 + 2 * 16


@sweep("dilation", [1, (1, 6), (18, 15)])
def test_size_is_kept_whatever_the_dilation(dilation):
    """Oracle: invariance; the map is smaller than the dilation."""
    x = torch.randn(2, 4, 5, 7)
    assert SeparableConv(4, 6, dilation=dilation)(x).shape == (2, 6, 5, 7)


def test_separable_conv_is_a_full_conv_of_rank_one_filters():
    """Oracle: the dense 3x3 convolution whose filters are the products of the two."""
    layer = SeparableConv(3, 5, norm_act=lambda channels: nn.Identity())
    depthwise, pointwise = layer[0].weight, layer[1].weight
    x = torch.randn(1, 3, 6, 6)
    dense = pointwise * depthwise.permute(1, 0, 2, 3)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, dense, padding=1))


def test_conv_norm_act_keeps_the_size_and_has_no_bias():
    layer = ConvNormAct(3, 4, kernel_size=3)
    assert layer[0].bias is None
    assert layer(torch.randn(1, 3, 5, 6)).shape == (1, 4, 5, 6)
