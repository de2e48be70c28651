"""Fusion of a convolution's bias with the leaky ReLU after it: one pass over the map on CUDA."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu_


class BiasLeakyReLU(nn.Module):
    """Adds a bias to each channel and applies a leaky ReLU, in place.

    On CUDA, PyTorch makes one pass over the map to add the bias of a convolution and another for the activation. The
    Triton kernel of in-place ABN does both in one pass, in float32. For maps that the kernel does not accept, PyTorch's
    operators are used.

    Args:
        bias: ``[C]``; kept in float32.
        slope: negative slope; 1 is the identity.
    """

    bias: Tensor
    one: Tensor

    def __init__(self, bias: Tensor, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.register_buffer("bias", bias.detach().float())
        self.register_buffer("one", torch.ones_like(self.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Change ``x`` ``[B, C, ...]``, and return it."""
        from efficientps.layers import norm_act_kernels  # Triton is installed with CUDA only

        if norm_act_kernels.accepts(x):
            return norm_act_kernels.normalise(x, self.one, self.bias, self.slope, out=x)
        x += self.bias.view(-1, *[1] * (x.dim() - 2)).to(x.dtype)
        return x if self.slope == 1 else leaky_relu_(x, self.slope)


def kernel_runs(device: torch.device) -> bool:
    """Return whether the Triton kernel can run on a device: a CUDA device, with a Triton that works."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    from efficientps.layers import norm_act_triton

    try:
        norm_act_triton.check_launch(device)
    except norm_act_triton.KernelLaunchError:
        return False
    return True


def move_biases(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Move the bias of each layer into the activation after it, in place.

    Args:
        network: a network that only predicts.
        pairs: pairs of names: a layer, and the one module that consumes the layer's output. A pair stays unchanged if
            the layer has no bias, or if the second module is neither a leaky ReLU nor the identity.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for layer_name, rest_name in pairs:
        layer, rest = network.get_submodule(layer_name), network.get_submodule(rest_name)
        bias = layer._parameters.get("bias")
        if bias is None or not isinstance(rest, nn.Identity | nn.LeakyReLU):
            continue
        activation = BiasLeakyReLU(bias, rest.negative_slope if isinstance(rest, nn.LeakyReLU) else 1.0)
        for name in names[rest]:
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, activation)
        layer.register_parameter("bias", None)
