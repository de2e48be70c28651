"""Points NMS: of neighbouring cells with the same class, only the one with the highest score remains."""

from __future__ import annotations

import torch
from torch import Tensor


def suppress_neighbours(scores: Tensor, window: int = 2) -> Tensor:
    """Return scores ``[B, C, rows, columns]`` with 0 where a neighbour in the same class is higher ("points NMS").

    Args:
        scores: scores of each cell and class, at least 0.
        window: cells along each side of the square that a cell is compared with. 2, as published
            (WXinlong/SOLO:mmdet/core/post_processing/matrix_nms.py, ``points_nms``), holds its neighbours above, left
            and above left; an odd number has the cell in the middle; 1 suppresses nothing.

    >>> suppress_neighbours(torch.tensor([[[[0.9, 0.8], [0.7, 0.95]]]]))
    tensor([[[[0.9000, 0.0000],
              [0.0000, 0.9500]]]])
    """
    rows, columns = scores.shape[-2:]
    highest = torch.max_pool2d(scores, window, stride=1, padding=window // 2)[..., :rows, :columns]
    return scores * (highest == scores)
