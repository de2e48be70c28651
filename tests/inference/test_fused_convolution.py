"""A convolution with its activation in one operation."""

from copy import deepcopy

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.nn.functional import leaky_relu

from efficientps.inference.fused_convolution import ConvLeakyReLU, join_activations
from tests.sweep import sweep

CONVOLUTIONS = {
    "1x1": {"in_channels": 5, "out_channels": 7, "kernel_size": 1},
    "3x3": {"in_channels": 5, "out_channels": 8, "kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {
        "in_channels": 8,
        "out_channels": 8,
        "kernel_size": 3,
        "padding": (6, 3),
        "dilation": (6, 3),
        "groups": 8,
    },
    "no bias": {"in_channels": 6, "out_channels": 4, "kernel_size": (3, 5), "groups": 2, "bias": False},
}


@sweep("options", CONVOLUTIONS.values())
@sweep("layout", [torch.channels_last, torch.contiguous_format])
def test_equals_one_after_the_other(options, layout):
    """Oracle: PyTorch's convolution and leaky ReLU in float64."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(**options).requires_grad_(False)
    x = torch.randn(2, options["in_channels"], 17, 23).contiguous(memory_format=layout)
    expected = leaky_relu(deepcopy(convolution).double()(x.double()), 0.2)
    found = ConvLeakyReLU(convolution, 0.2)(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@sweep("size", [(16, 24), (17, 23), (16, 23), (3, 2), (1, 64)])
@sweep("kernel_size, stride", [(3, 2), (5, 2), (3, 1), (3, 3), ((3, 4), 2), (1, 2)])
def test_same_padding_is_part_of_the_convolution(size, kernel_size, stride):
    """Oracle: timm's convolution with TensorFlow's padding, and leaky ReLU, in float64."""
    torch.manual_seed(0)
    convolution = Conv2dSame(6, 6, kernel_size, stride, groups=6).requires_grad_(False)
    x = torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last)
    expected = leaky_relu(deepcopy(convolution).double()(x.double()), 0.2)
    found = ConvLeakyReLU(convolution, 0.2)(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_same_padding_of_even_sizes_makes_no_larger_copy_of_the_input():
    """Oracle: the operations that PyTorch runs; timm's layer runs one that pads, and this layer none."""
    convolution = Conv2dSame(6, 6, 3, 2, groups=6).requires_grad_(False)
    x = torch.randn(1, 6, 16, 32)
    operations = {}
    for name, layer in {"timm": convolution, "joined": ConvLeakyReLU(convolution, 0.2)}.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            layer(x)
        operations[name] = {event.key for event in profile.key_averages()}
    assert "aten::constant_pad_nd" in operations["timm"]
    assert not operations["joined"] & {"aten::constant_pad_nd", "aten::pad", "aten::fill_", "aten::copy_"}


def test_half_precision_goes_another_way():
    """Oracle: the same convolution and leaky ReLU under autocast, to the last bit."""
    convolution = nn.Conv2d(4, 4, 3).requires_grad_(False)
    x = torch.randn(1, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ConvLeakyReLU(convolution, 0.1)(x), leaky_relu(convolution(x), 0.1))


def test_pairs_are_joined():
    """Oracle: the network before; other layers and other activations stay as they are."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.LeakyReLU(0.1), nn.Conv2d(4, 4, 1), nn.Identity(), nn.ConvTranspose2d(4, 4, 2),
        nn.LeakyReLU(0.1), nn.Conv2d(4, 4, 3, padding="same"), nn.LeakyReLU(0.1),
        Conv2dSame(4, 4, 3, dilation=2), nn.LeakyReLU(0.1),
    ).requires_grad_(False)  # fmt: skip
    joined = deepcopy(network)
    join_activations(joined, [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7"), ("8", "9")])
    assert [type(layer) for layer in joined[:2]] == [ConvLeakyReLU, nn.Identity]
    assert [type(layer) for layer in joined[2:]] == [type(layer) for layer in network[2:]]
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(joined(x), network(x), rtol=0, atol=1e-6)
