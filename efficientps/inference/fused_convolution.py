"""Fusion of a convolution with its padding and with the leaky ReLU after it: one pass over the map on a CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu_, pad

if TYPE_CHECKING:  # timm is imported by the functions that need it, because it takes long
    from timm.layers.conv2d_same import Conv2dSame


class ConvLeakyReLU(nn.Conv2d):
    """A convolution followed by a leaky ReLU.

    In float32 on a CPU, oneDNN computes both in one operation, with the result of the two operations. Otherwise PyTorch
    computes them one after the other. The layer has no backward pass.

    TensorFlow's "SAME" padding depends on the size of the input, and for even sizes and a stride of 2 the right side
    gets one zero more than the left. ``Conv2dSame`` pads in a pass of its own. Here the convolution pads: its kernel
    gets a first row and a first column of zeros, and with them both sides need the same padding.

    Args:
        convolution: a convolution that ``can_be_joined``; its parameters are shared, not copied.
        slope: negative slope of the leaky ReLU.

    Attributes:
        wide_weight: the weight with a first row and column of zeros, ``[out, in / groups, kh + 1, kw + 1]``; ``None``
            without "SAME" padding.
    """

    wide_weight: Tensor | None

    def __init__(self, convolution: nn.Conv2d | Conv2dSame, slope: float) -> None:
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
        wide = pad(convolution.weight, (1, 0, 1, 0)) if _pads_same(convolution) else None
        self.register_buffer("wide_weight", wide, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, H, W]`` to ``[B, out_channels, H', W']``."""
        weight, padding = self.weight, cast(tuple[int, ...], self.padding)
        if self.wide_weight is not None:
            x, weight, padding = self._pad_same(x, self.wide_weight)
        in_float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
        if x.device.type == "cpu" and in_float32 and not torch.compiler.is_compiling():
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, weight, self.bias, padding, self.stride, self.dilation, self.groups,
                "leaky_relu", [self.slope], "",
            )  # fmt: skip
            return y
        return leaky_relu_(conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups), self.slope)

    def _pad_same(self, x: Tensor, wide_weight: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Return input, weight and padding that give "SAME" padding for an input of this size."""
        from timm.layers.padding import get_same_padding, pad_same

        kernel, stride = cast(tuple[int, int], self.kernel_size), cast(tuple[int, int], self.stride)
        zeros = tuple(int(get_same_padding(*sizes, 1)) for sizes in zip(x.shape[-2:], kernel, stride, strict=True))
        if all(number % 2 == 0 for number in zeros):
            return x, self.weight, tuple(number // 2 for number in zeros)
        if all(number % 2 == 1 for number in zeros):
            return x, wide_weight, tuple(number // 2 + 1 for number in zeros)
        return pad_same(x, list(kernel), list(stride)), self.weight, (0, 0)


def can_be_joined(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution with padding by zeros: a number of them, or "SAME" without dilation."""
    if _pads_same(layer):
        return cast(nn.Conv2d, layer).dilation == (1, 1)
    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _pads_same(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution with TensorFlow's "SAME" padding."""
    from timm.layers.conv2d_same import Conv2dSame

    return type(layer) is Conv2dSame


def runs_fused(device: torch.device) -> bool:
    """Return whether this build of PyTorch fuses convolution and leaky ReLU on a device."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def join_activations(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Join each convolution with the leaky ReLU after it, in place.

    Args:
        network: a network that only predicts.
        pairs: pairs of names: a layer, and the one module that consumes the layer's output. A pair stays unchanged
            unless it is a convolution that ``can_be_joined`` and a leaky ReLU.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for layer_name, rest_name in pairs:
        layer, rest = network.get_submodule(layer_name), network.get_submodule(rest_name)
        if not (can_be_joined(layer) and isinstance(rest, nn.LeakyReLU)):
            continue
        joined = ConvLeakyReLU(cast(nn.Conv2d, layer), rest.negative_slope)
        for module, new in ((layer, joined), (rest, nn.Identity())):
            for name in names[module]:
                parent, _, attribute = name.rpartition(".")
                setattr(network.get_submodule(parent), attribute, new)
