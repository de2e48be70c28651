"""Points NMS: of neighbouring cells with the same class, only the one with the highest score remains."""

from __future__ import annotations

import torch
from torch import Tensor


def suppress_neighbours(scores: Tensor) -> Tensor:
    """Return scores ``[B, C, rows, columns]`` with 0 where a neighbour in the same class is higher ("points NMS").

    The windows are 2x2, as published: a cell is compared with its neighbours above, left, and above left.

    >>> suppress_neighbours(torch.tensor([[[[0.9, 0.8], [0.7, 0.95]]]]))
    tensor([[[[0.9000, 0.0000],
              [0.0000, 0.9500]]]])
    """
    highest = torch.max_pool2d(scores, 2, stride=1, padding=1)[..., :-1, :-1]
    return scores * (highest == scores)
