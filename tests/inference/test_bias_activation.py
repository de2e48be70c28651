"""The bias behind a convolution, with its activation in one pass."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from efficientps.inference.bias_activation import BiasLeakyReLU, kernel_runs, move_biases
from tests.layers.test_norm_act_triton import DEVICE, needs_kernels
from tests.sweep import sweep


@needs_kernels
@sweep("dtype", [torch.float32, torch.bfloat16])
@sweep("slope", [0.01, 1.0])
def test_the_kernel_adds_the_bias_and_activates_in_place(dtype, slope):
    """Oracle: PyTorch's addition and leaky ReLU in float64; one rounding in the type of the map."""
    torch.manual_seed(0)
    x = torch.randn(2, 24, 5, 6, device=DEVICE).to(dtype).contiguous(memory_format=torch.channels_last)
    bias = torch.randn(24, device=DEVICE)
    expected = leaky_relu(x.double() + bias.double().view(-1, 1, 1), slope)
    found = BiasLeakyReLU(bias, slope)(x)
    assert found.data_ptr() == x.data_ptr()
    torch.testing.assert_close(found.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 5)])
def test_other_layouts_go_another_way(shape):
    """Oracle: by hand."""
    x = torch.full(shape, -1.0)
    assert BiasLeakyReLU(torch.tensor([0.0, 1.0, 3.0]), 0.5)(x).flatten(2).mT.reshape(-1, 3).unique(dim=0).tolist() == (
        [[-0.5, 0.0, 2.0]] if x.numel() else []
    )


def test_biases_move():
    """Oracle: the network before; what has no bias, or another activation, stays as it is."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.LeakyReLU(0.1), nn.Conv2d(4, 4, 1), nn.Identity(), nn.Conv2d(4, 4, 1), nn.ReLU(),
        nn.Conv2d(4, 2, 1, bias=False), nn.Identity(),
    )  # fmt: skip
    moved = deepcopy(network)
    move_biases(moved, [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")])
    assert [type(layer).__name__ for layer in moved][1::2] == ["BiasLeakyReLU", "BiasLeakyReLU", "ReLU", "Identity"]
    assert [layer.bias is None for layer in moved[::2]] == [True, True, False, True]
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(moved(x), network(x), rtol=0, atol=1e-6)


def test_a_cpu_keeps_its_biases():
    """Oracle: by contract; convolutions of a CPU add their bias at no cost."""
    assert not kernel_runs(torch.device("cpu"))
