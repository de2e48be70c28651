"""A feature pyramid with four strides."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

STRIDES = (4, 8, 16, 32)
"""Pixels of the image that a cell of each level covers along each axis, finest level first."""

COARSEST_STRIDE = STRIDES[-1]
"""Heights and widths of the images that a network takes are multiples of it."""


class FeaturePyramid(NamedTuple):
    """Feature maps of a backbone or of the two-way FPN, finest first; each float ``[B, C, H/s, W/s]``.

    The stride s is in the name of each; a backbone that dilates its last stage has stride 16 there.
    """

    p4: Tensor
    p8: Tensor
    p16: Tensor
    p32: Tensor
