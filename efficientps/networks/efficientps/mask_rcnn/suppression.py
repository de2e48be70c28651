"""Non-maximum suppression: of boxes that overlap, the one with the highest score stays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

_ROUNDS = 8
"""Rounds of suppression before the host asks whether anything still changes; most batches need no more."""

_PAIRS_AT_A_TIME = 2**24
"""Pairs of boxes whose overlaps are in memory at once, as three float32 each; 2000 boxes on four levels make 16 M."""

_LARGEST_SHIFTED = 25_000
"""Boxes up to which torchvision shifts the groups apart on CUDA."""


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thresh: float) -> Tensor:
    """Return the indices of the boxes that stay, by falling score, int64; a box suppresses boxes of its own group only.

    The result is that of torchvision's ``batched_nms``, on CUDA without its blocking copy of a 1 to the device.

    Args:
        boxes: float32 ``[R, 4]``, xyxy.
        scores: float32 ``[R]``.
        groups: int64 ``[R]``, from 0 on.
        iou_thresh: overlap above which the weaker of two boxes goes.
    """
    if boxes.is_cuda and len(boxes) <= _LARGEST_SHIFTED:
        return nms_of_shifted_groups(boxes, scores, groups, iou_thresh)
    kept: Tensor = batched_nms(boxes, scores, groups, iou_thresh)
    return kept


def nms_of_shifted_groups(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thresh: float) -> Tensor:
    """Return what ``grouped_nms`` returns, from one call of ``nms``: boxes of different groups are moved far apart."""
    if len(boxes) == 0:
        return groups
    offsets = groups.to(boxes.dtype) * (boxes.max() + 1)
    kept: Tensor = nms(boxes + offsets[:, None], scores, iou_thresh)
    return kept


def nms_of_sorted_groups(boxes: Tensor, valid: Tensor, iou_thresh: float) -> tuple[Tensor, list[int]]:
    """Return which boxes of each group stay, bool ``[G, K]``, and how many: greedy suppression of many groups at once.

    A box is dropped if it overlaps an earlier box that stays. All boxes are decided at once, in rounds that start from
    the decisions of the round before. Each round is right for one more link of every chain of overlapping boxes, and a
    round that changes nothing is final. The greedy loop over the boxes, which a GPU would go through on one of its
    cores, needs as many steps as there are boxes; these chains are a few links long.

    The host waits once for every 8 links of the longest chain.

    Args:
        boxes: float32 ``[G, K, 4]``, xyxy, by falling score in each group.
        valid: bool ``[G, K]``; the other boxes neither stay nor suppress any.
        iou_thresh: overlap above which the weaker of two boxes goes.
    """
    step = max(1, _PAIRS_AT_A_TIME // max(1, boxes.shape[1] ** 2))
    # In half precision it is exact whether a sum of zeros and ones is zero, and the overlaps weigh half as much.
    overlaps = [_earlier_overlaps(part, iou_thresh).half() for part in torch.split(boxes, step)]
    starts = torch.split(valid.half()[..., None], step)
    stays: Sequence[Tensor] = starts
    with torch.autocast(boxes.device.type, enabled=False):
        while True:
            for _ in range(_ROUNDS):
                before = stays
                stays = [
                    torch.baddbmm(start, overlap, stay, alpha=-1).clamp_(min=0)
                    for start, overlap, stay in zip(starts, overlaps, before, strict=True)
                ]
            stay = torch.cat(list(stays), dim=0)
            changed = stay != torch.cat(list(before), dim=0)
            kept = stay > 0
            numbers: list[list[int]] = torch.cat([kept, changed], dim=2).sum(dim=1).tolist()
            if not any(changes for _, changes in numbers):
                return kept[..., 0], [number for number, _ in numbers]


def _earlier_overlaps(boxes: Tensor, iou_thresh: float) -> Tensor:
    """Return whether box j comes before box i of its group and overlaps it, bool ``[G, K, K]`` at (i, j)."""
    width, height = (_common_length(boxes[..., axis], boxes[..., axis + 2]) for axis in (0, 1))
    common = width.mul_(height)
    del height
    sides = boxes[..., 2:] - boxes[..., :2]
    areas = sides[..., 0] * sides[..., 1]
    union = (areas[:, :, None] + areas[:, None]).sub_(common)
    return (common.div_(union) > iou_thresh).tril_(-1)


def _common_length(low: Tensor, high: Tensor) -> Tensor:
    """Return the length that each two intervals have in common, ``[G, K, K]`` of intervals ``[G, K]``."""
    reach = torch.minimum(high[:, :, None], high[:, None])
    return reach.sub_(torch.maximum(low[:, :, None], low[:, None])).clamp_(min=0)
