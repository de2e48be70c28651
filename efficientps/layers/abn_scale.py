"""The scale of in-place ABN, ``abs(weight) + eps``, and what the backward pass needs of it.

The gradient with respect to the weight has the weight's sign. So that no operation of its own puts it there, the
backward pass divides by a scale that has this sign: it stands twice in the gradient of the input, where it vanishes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SignedScale(NamedTuple):
    """What the backward pass takes of the weights, ``[C]`` each: the inverse has their sign, and so has the square."""

    inverse: Tensor
    square: Tensor


class Scale(NamedTuple):
    """The scale of each channel, ``[C]``, and what the backward pass takes of it."""

    absolute: Tensor
    signed: SignedScale


def absolute_scale(weight: Tensor, eps: float) -> Tensor:
    """Return the scale of each weight, never 0."""
    return weight.abs() + eps


def signed_scale(weight: Tensor, absolute: Tensor) -> SignedScale:
    """Return inverse and square of the scale ``absolute`` with the sign of the weight."""
    signed = torch.copysign(absolute, weight)
    return SignedScale(signed.reciprocal(), signed * absolute)


def scales_at_once(weights: list[Tensor], eps: float) -> list[Scale]:
    """Return the scales of many layers, by one operation where each layer would start its own.

    Args:
        weights: of each layer, ``[C]``, of one type and device.
        eps: of all layers.
    """
    sizes = [len(weight) for weight in weights]
    weight = torch.cat(weights)
    absolute = absolute_scale(weight, eps)
    inverse, square = signed_scale(weight, absolute)
    parts = zip(*(torch.split(values, sizes) for values in (absolute, inverse, square)), strict=True)
    return [Scale(absolute, SignedScale(inverse, square)) for absolute, inverse, square in parts]
