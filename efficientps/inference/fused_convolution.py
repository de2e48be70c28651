"""Fusion of a convolution with the leaky ReLU after it: one pass over the map on a CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu_


class ConvLeakyReLU(nn.Conv2d):
    """A convolution followed by a leaky ReLU.

    In float32 on a CPU, oneDNN computes both in one operation, with the result of the two operations. Otherwise PyTorch
    computes them one after the other. The layer has no backward pass.

    Args:
        convolution: a convolution with zero padding; its parameters are shared, not copied.
        slope: negative slope of the leaky ReLU.
    """

    def __init__(self, convolution: nn.Conv2d, slope: float) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            cast(tuple[int, int], convolution.kernel_size),
            cast(tuple[int, int], convolution.stride),
            cast(tuple[int, int], convolution.padding),
            cast(tuple[int, int], convolution.dilation),
            convolution.groups,
            bias=False,
            device="meta",
        )
        self.weight = convolution.weight
        self.bias = convolution.bias
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, H, W]`` to ``[B, out_channels, H', W']``."""
        in_float32 = x.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
        if x.device.type == "cpu" and in_float32 and not torch.compiler.is_compiling():
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups,
                "leaky_relu", [self.slope], "",
            )  # fmt: skip
            return y
        return leaky_relu_(super().forward(x), self.slope)


def runs_fused(device: torch.device) -> bool:
    """Return whether this build of PyTorch fuses convolution and leaky ReLU on a device."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def join_activations(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Join each convolution with the leaky ReLU after it, in place.

    Args:
        network: a network that only predicts.
        pairs: pairs of names: a layer, and the one module that consumes the layer's output. A pair stays unchanged
            unless it is a plain convolution and a leaky ReLU.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for layer_name, rest_name in pairs:
        layer, rest = network.get_submodule(layer_name), network.get_submodule(rest_name)
        plain = type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        if not (plain and isinstance(rest, nn.LeakyReLU)):
            continue
        joined = ConvLeakyReLU(cast(nn.Conv2d, layer), rest.negative_slope)
        for module, new in ((layer, joined), (rest, nn.Identity())):
            for name in names[module]:
                parent, _, attribute = name.rpartition(".")
                setattr(network.get_submodule(parent), attribute, new)
