"""A convolution with its activation in one operation."""

from copy import deepcopy

import torch
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
    ).requires_grad_(False)  # fmt: skip
    joined = deepcopy(network)
    join_activations(joined, [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")])
    assert [type(layer) for layer in joined[:2]] == [ConvLeakyReLU, nn.Identity]
    assert [type(layer) for layer in joined[2:]] == [type(layer) for layer in network[2:]]
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(joined(x), network(x), rtol=0, atol=1e-6)
