"""Targets of masks as mmdetection 1 makes them: a crop at whole pixels, resized as OpenCV resizes 8-bit images."""

from __future__ import annotations

import torch
from torch import Tensor

_ONE = 2048
"""The weight 1 in the fixed-point numbers of OpenCV (opencv/opencv:modules/imgproc/src/resize.cpp)."""


def hard_mask_targets(masks: Tensor, boxes: Tensor, matched: Tensor, *, size: int) -> Tensor:
    """Return each box's part of its object's mask, resized to ``[P, size, size]`` of 0 and 1, float32.

    The corners of a box become pixels by rounding towards 0 (DeepSceneSeg/EfficientPS:mmdet/core/mask/mask_target.py).
    The crop is interpolated bilinearly. As OpenCV does for 8-bit images, the parts of the two rows are rounded down to
    quarters before they are added, so that a value above a half can become 0.

    Args:
        masks: bool ``[N, H, W]``.
        boxes: float32 ``[P, 4]``, xyxy in pixels, half-open.
        matched: int64 ``[P]``, index of each box's object.
        size: side of the result.
    """
    if not len(boxes):
        return boxes.new_zeros((0, size, size))
    height, width = masks.shape[1:]
    rows, row_weights = _crop_axis(boxes[:, 1], boxes[:, 3], size, height, splits_outermost=True)
    columns, column_weights = _crop_axis(boxes[:, 0], boxes[:, 2], size, width, splits_outermost=False)
    total = torch.zeros((len(boxes), size, size), dtype=torch.int64, device=boxes.device)
    for row, row_weight in zip(rows, row_weights, strict=True):
        on_row = sum(
            masks[matched[:, None, None], row[:, :, None], column[:, None, :]] * column_weight[:, None, :]
            for column, column_weight in zip(columns, column_weights, strict=True)
        )
        assert isinstance(on_row, Tensor)
        total += (row_weight[:, :, None] * (on_row >> 4)) >> 16  # in quarters
    return ((total + 2) >> 2).to(boxes.dtype)


def _crop_axis(
    low: Tensor, high: Tensor, size: int, pixels: int, *, splits_outermost: bool
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the two pixels that each cell of a resized crop reads along one axis, and their weights.

    All are int64 ``[P, size]``. Beyond the outermost centres both are the same pixel; OpenCV still splits it in two
    along the columns of the image and rounds each part, but not along its rows.

    Args:
        low: start of each box, ``[P]``.
        high: end of each box, half-open.
        size: cells of the resized crop.
        pixels: pixels of the image along the axis.
        splits_outermost: whether the outermost pixel is split in two beyond its centre.
    """
    first = low.clamp(0, pixels - 1).long()[:, None]
    last = (high - 1).clamp(0, pixels - 1).long()[:, None]
    end = (last - first).clamp(min=0)  # the last pixel of the crop, counted from its first
    cells = torch.arange(size, device=low.device, dtype=torch.float64) + 0.5
    position = (cells * ((end + 1) / size) - 0.5).float()
    before = position.floor()
    share = position - before
    if not splits_outermost:
        share = share.masked_fill((before < 0) | (before >= end), 0)
    after = (before.long() + 1).minimum(end)
    before = before.long().clamp(min=0).minimum(end)
    weight = (share * _ONE).round().long()
    rest = ((1 - share) * _ONE).round().long()
    return (first + before, first + after), (rest, weight)
