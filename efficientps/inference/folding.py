"""Fold batch norms with fixed statistics into the convolution or linear layer before them.

With fixed statistics a batch norm is ``y = scale * x + shift`` per channel. The layer before it can absorb both:
``scale * (W * x + b) + shift = (scale W) * x + (scale b + shift)``. Only the norm's activation remains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from efficientps.layers.norm_act import InPlaceABN

if TYPE_CHECKING:  # timm is imported by the functions that need it, because it takes long
    from timm.layers.norm_act import FrozenBatchNormAct2d

FoldableNorm: TypeAlias = "InPlaceABN | _BatchNorm | FrozenBatchNorm2d | FrozenBatchNormAct2d"
FoldableLayer: TypeAlias = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


@dataclass(frozen=True)
class FoldedNorms:
    """Result of folding the batch norms of a network.

    Attributes:
        folded: names of the norms that were folded into the layer before them.
        kept: names of the norms that were not folded.
        layers: names of the layers that absorbed a norm, in the order of ``folded``.
    """

    folded: tuple[str, ...]
    kept: tuple[str, ...]
    layers: tuple[str, ...] = ()


def candidates(network: nn.Module) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """Return the layers and the norms, by name, whose types allow folding.

    A layer with a parametrised weight, which is computed anew in each call, is left out.
    """
    layers: dict[str, nn.Module] = {}
    norms: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, FoldableLayer) and isinstance(module._parameters.get("weight"), nn.Parameter):
            layers[name] = module
        elif _is_norm(module) and getattr(module, "running_var", None) is not None:
            norms[name] = module
    return layers, norms


def _is_norm(module: nn.Module) -> TypeGuard[FoldableNorm]:
    """Return whether a module is a norm that can be folded."""
    from timm.layers.norm_act import FrozenBatchNormAct2d

    return isinstance(module, InPlaceABN | _BatchNorm | FrozenBatchNorm2d | FrozenBatchNormAct2d)


def fold(
    network: nn.Module, pairs: Mapping[str, str], inputs: Mapping[str, Tensor], *, dtype: torch.dtype | None = None
) -> FoldedNorms:
    """Fold norms into layers, in place; a pair whose result would change is not folded.

    Args:
        network: a network in evaluation mode.
        pairs: for the name of each layer, the name of the one norm that consumes its output.
        inputs: an input of each layer, of the right size; its values do not matter.
        dtype: dtype that the weights will be cast to; a pair whose folded weights overflow in it is not folded.
    """
    _, norms = candidates(network)
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    folded, into = [], []
    for layer_name, norm_name in pairs.items():
        layer, norm = network.get_submodule(layer_name), network.get_submodule(norm_name)
        assert isinstance(layer, FoldableLayer) and _is_norm(norm)
        if any(module._forward_hooks or module._forward_pre_hooks for module in (layer, norm)):
            continue  # a user's hook would see other values
        rest = activation_of(norm)
        if not _fold_pair(layer, norm, rest, inputs[layer_name], dtype or layer.weight.dtype):
            continue
        for name in names[norm]:
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, rest)
        folded.append(norm_name)
        into.append(layer_name)
    return FoldedNorms(tuple(folded), tuple(name for name in norms if name not in folded), tuple(into))


def _fold_pair(layer: FoldableLayer, norm: FoldableNorm, rest: nn.Module, x: Tensor, dtype: torch.dtype) -> bool:
    """Fold a norm into its layer if the folded weights fit into ``dtype`` and the result on noise stays the same.

    The tolerance is the square root of the dtype's machine epsilon. Rounding errors are far smaller; a layer that
    transforms its weights in each call, such as one with weight standardisation, has a far larger error.

    Returns:
        Whether the norm was folded; if not, the layer is unchanged.
    """
    old = layer.weight, layer.bias
    device, own = layer.weight.device, layer.weight.dtype
    noise = torch.randn(
        (max(1, len(x)), *x.shape[1:]), generator=torch.Generator(device).manual_seed(0), dtype=own, device=device
    )
    weight, bias = folded_weights(layer, norm)
    if not all(tensor.to(dtype).isfinite().all() for tensor in (weight, bias)):
        return False
    with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = norm(layer(noise))
        layer.weight = nn.Parameter(torch.empty_like(layer.weight).copy_(weight), requires_grad=False)
        layer.bias = nn.Parameter(bias.to(device, own), requires_grad=False)
        found = rest(layer(noise))
    tolerance = torch.finfo(own).eps ** 0.5
    same = found.shape == expected.shape and bool((found - expected).abs().max() <= tolerance * expected.abs().max())
    if not same:
        layer.weight, layer.bias = old
    return same


def folded_weights(layer: FoldableLayer, norm: FoldableNorm) -> tuple[Tensor, Tensor]:
    """Return weight and bias, float64 on the CPU, of one layer that computes layer and norm without the activation.

    Groups and padding need no care, because the norm acts on the layer's output.
    """
    scale, shift = affine_of(norm)
    weight = layer.weight.detach().cpu().double()  # not every device has float64
    bias = shift if layer.bias is None else layer.bias.detach().cpu().double() * scale + shift
    if isinstance(layer, nn.ConvTranspose2d):  # [in, out / groups, ...], groups consecutive in the first axis
        grouped = weight.view(layer.groups, -1, *weight.shape[1:]) * scale.view(layer.groups, 1, -1, 1, 1)
        return grouped.flatten(0, 1), bias
    return weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias


def affine_of(norm: FoldableNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift, float64 ``[C]`` on the CPU, that a norm with fixed statistics applies."""
    tensors = {**dict(norm.named_parameters(recurse=False)), **dict(norm.named_buffers(recurse=False))}
    exact = {name: tensor.detach().cpu().double() for name, tensor in tensors.items()}
    mean, var = exact["running_mean"], exact["running_var"]
    weight, bias = exact.get("weight", torch.ones_like(mean)), exact.get("bias", torch.zeros_like(mean))
    if isinstance(norm, InPlaceABN):
        weight = weight.abs() + norm.eps
    scale = weight / (var + norm.eps).sqrt()
    return scale, bias - mean * scale


def activation_of(norm: FoldableNorm) -> nn.Module:
    """Return the activation of a norm, in place where possible: nothing else reads the folded layer's output."""
    from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d

    if isinstance(norm, InPlaceABN):
        return nn.Identity() if norm.slope == 1 else nn.LeakyReLU(norm.slope, inplace=True)
    if isinstance(norm, BatchNormAct2d | FrozenBatchNormAct2d):
        rest = [part for part in (norm.drop, norm.act) if not isinstance(part, nn.Identity)]
        return nn.Sequential(*rest) if rest else nn.Identity()
    return nn.Identity()
