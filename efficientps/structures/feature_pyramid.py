"""Feature maps at four strides."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FeaturePyramid(NamedTuple):
    """Feature maps of the two-way FPN, finest first; each float ``[B, C, H/s, W/s]`` with the stride s in its name."""

    p4: Tensor
    p8: Tensor
    p16: Tensor
    p32: Tensor
