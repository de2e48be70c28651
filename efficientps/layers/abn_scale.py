"""The scale of in-place ABN, ``abs(weight) + eps``, and the vectors that the backward pass computes from it.

The gradient with respect to the weight has the weight's sign. The backward pass gets it without an extra operation,
because it divides by a scale that carries this sign. In the gradient of the input the signed scale occurs twice, and
the sign cancels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SignedScale(NamedTuple):
    """Inverse and square of the scale, ``[C]`` each, with the sign of the weight: the backward pass uses both."""

    inverse: Tensor
    square: Tensor


class Scale(NamedTuple):
    """The scale of each channel, ``[C]``, and the vectors for the backward pass."""

    absolute: Tensor
    signed: SignedScale


def absolute_scale(weight: Tensor, eps: float) -> Tensor:
    """Return ``abs(weight) + eps``, which is never 0."""
    return weight.abs() + eps


def signed_scale(weight: Tensor, absolute: Tensor) -> SignedScale:
    """Return inverse and square of the scale ``absolute``, both with the sign of ``weight``."""
    signed = torch.copysign(absolute, weight)
    return SignedScale(signed.reciprocal(), signed * absolute)


def scales_of_layers(weights: list[Tensor], eps: float) -> list[Scale]:
    """Return the scales of many layers, computed together on their concatenated weights.

    Args:
        weights: weights of each layer, ``[C]``, all of one dtype and on one device.
        eps: added to the absolute weights of every layer.
    """
    sizes = [len(weight) for weight in weights]
    weight = torch.cat(weights)
    absolute = absolute_scale(weight, eps)
    inverse, square = signed_scale(weight, absolute)
    parts = zip(*(torch.split(values, sizes) for values in (absolute, inverse, square)), strict=True)
    return [Scale(absolute, SignedScale(inverse, square)) for absolute, inverse, square in parts]
