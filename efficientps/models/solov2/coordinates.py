"""Normalised coordinates as two more channels, so that a convolution knows where it is (CoordConv)."""

from __future__ import annotations

import torch
from torch import Tensor


def with_coordinates(x: Tensor) -> Tensor:
    """Append each cell's place to its features: first x, then y, from -1 to 1 between the outermost centres.

    Args:
        x: float ``[B, C, H, W]``.

    Returns:
        ``[B, C + 2, H, W]`` of the same type.

    >>> with_coordinates(torch.zeros(1, 1, 2, 3))[0, 1:].tolist()
    [[[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]], [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]]
    """
    batch, _, height, width = x.shape
    across = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype).expand(batch, 1, height, width)
    down = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)[:, None].expand(batch, 1, height, width)
    return torch.cat([x, across, down], dim=1)
