"""Matrix NMS: scores decay by the overlap with better masks, all in one matrix instead of one after the other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_PIXELS_AT_A_TIME = 1 << 15

_NUMBERS_AT_A_TIME_ON_CUDA = 1 << 26
"""Numbers of masks converted to float32 together (256 MB); 500 masks at a quarter of 1024x2048 need one call."""


def matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    *,
    kernel: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 2.0,
) -> Tensor:
    """Return scores that fall with the overlap of each mask with better ones of its class (SOLOv2, Sec. 3.4).

    The score of mask j is multiplied by the least f(IoU_ij) / f(max_k IoU_ki), taken over all masks i better than j,
    with k over all masks better than i. The more i itself is suppressed, the less it suppresses j. f is exp(-sigma *
    IoU^2) or 1 - IoU. Of equal scores the earlier mask is the better one. A mask without any pixel overlaps with none.

    Args:
        masks: bool, or numbers 0 and 1, ``[N, M]`` or ``[N, h, w]``; up to 2^24 pixels each, which float32 counts
            exactly.
        labels: int64 ``[N]``.
        scores: float ``[N]``, in any order.
        kernel: f. An exact copy keeps exp(-sigma) of its score with ``gaussian`` and nothing with ``linear``.
        sigma: sigma of the Gaussian; 2 in the paper and in the authors' configurations.

    Returns:
        ``[N]`` in the order of the input, float32 at least.

    >>> masks = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 1]])
    >>> matrix_nms(masks, torch.tensor([0, 0, 1]), torch.tensor([0.5, 0.8, 0.1]), kernel="linear").tolist()
    [0.25, 0.800000011920929, 0.10000000149011612]
    """
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    if len(scores) == 0:
        return scores.clone()
    order = scores.argsort(descending=True, stable=True)
    ordered_labels = labels[order]
    better = (ordered_labels[:, None] == ordered_labels).triu(diagonal=1)  # [i, j]: i is better than j, of its class
    iou = pairwise_iou(masks.flatten(1))[order][:, order] * better
    suppressed = iou.amax(dim=0)[:, None]  # how much each i overlaps with better ones
    # Where i is not better than j, IoU is 0 and the quotient at least 1; in the row of the best mask it is at most 1.
    if kernel == "gaussian":
        decay = torch.exp(sigma * (suppressed**2 - iou**2))
    else:
        # 0/0, of three copies of a mask, may become any number of 0 or more: the first copy leaves the third nothing.
        decay = (1 - iou) / (1 - suppressed).clamp(min=torch.finfo(iou.dtype).eps)
    result = torch.empty_like(scores)
    result[order] = scores[order] * decay.amin(dim=0)
    return result


def pairwise_iou(masks: Tensor) -> Tensor:
    """Return the IoU float32 ``[N, N]`` of each pair of masks ``[N, M]``; 0 where both are empty."""
    # Half precision cannot count: its largest number is 65504.
    with torch.autocast(masks.device.type, enabled=False):
        intersection = masks.new_zeros((len(masks), len(masks)), dtype=torch.float32)
        # A part of the pixels at a time: as floats, 500 masks at a quarter of 1024x2048 weigh 260 MB. On a GPU the
        # parts are few, because each call costs time.
        size = max(1, _NUMBERS_AT_A_TIME_ON_CUDA // max(1, len(masks))) if masks.is_cuda else _PIXELS_AT_A_TIME
        for part in torch.split(masks, size, dim=1):
            pixels = part.float()
            intersection.addmm_(pixels, pixels.T)
    area = intersection.diagonal()
    union = area[:, None] + area - intersection
    return intersection / union.clamp(min=1)
