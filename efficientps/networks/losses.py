"""Losses as pure functions; each computes in float32 whatever the precision of its inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.ops import sigmoid_focal_loss

from efficientps.structures import IGNORE_INDEX


def hard_pixel_cross_entropy(
    logits: Tensor, target: Tensor, *, fraction: float = 0.25, scope: Literal["image", "batch"] = "image"
) -> Tensor:
    """Return the mean cross entropy over the worst pixels (EfficientPS, Sec. 3.3: weight 4/(H*W) on the worst 25 %).

    Ignored pixels have a loss of 0 and count in the number of pixels, so that the weight of a pixel does not depend on
    how much of its image is void; an image without any labelled pixel contributes 0.

    Args:
        logits: float ``[B, C, H, W]``, before the softmax.
        target: int64 ``[B, H, W]``, train_id or ``IGNORE_INDEX``.
        fraction: share of the pixels that count, in (0, 1].
        scope: the worst quarter of each ``image`` (the paper) or of the whole ``batch`` (DeepSceneSeg/EfficientPS:
            efficientps_semantic_head.py). They agree at one image per device.

    Returns:
        A float32 scalar.
    """
    loss = _pixel_cross_entropy(logits.float(), target)
    loss = loss.flatten(1) if scope == "image" else loss.reshape(1, -1)
    kept = max(1, int(fraction * loss.shape[1]))
    return loss.topk(kept, dim=1, sorted=False).values.mean()


def _pixel_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy of each pixel, ``[B, H, W]``; 0 where it is ignored."""
    if logits.is_contiguous(memory_format=torch.channels_last):
        # One row for each pixel, in the order of memory: a softmax over the second of four dimensions would copy first.
        logits, flat = logits.permute(0, 2, 3, 1).flatten(0, 2), target.flatten()
        return cross_entropy(logits, flat, ignore_index=IGNORE_INDEX, reduction="none").view_as(target)
    return cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction="none")


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the sum of the sigmoid focal loss over all elements (arXiv 1708.02002, Eq. 5), a float32 scalar.

    Args:
        logits: float ``[...]``, before the sigmoid.
        targets: 0 or 1, of the same shape.
        alpha: weight of the positives, 1 - alpha that of the negatives (0.25, the paper's and SOLOv2's).
        gamma: exponent that lowers the weight of elements that are already right (2, the paper's and SOLOv2's).
    """
    loss: Tensor = sigmoid_focal_loss(logits.float(), targets.float(), alpha=alpha, gamma=gamma, reduction="sum")
    return loss


def weighted(weight: float, loss: Tensor) -> Tensor:
    """Return ``weight * loss``; a weight of 1 launches nothing."""
    return loss if weight == 1 else weight * loss


def dice_loss(logits: Tensor, targets: Tensor, *, smoothing: float = 1e-3) -> Tensor:
    """Return ``1 - 2 sum(p t) / (sum(p^2) + sum(t^2))`` of each mask, with squares as in V-Net (arXiv 1606.04797).

    A mask and a target without any pixel have loss 1, with hardly any gradient.

    Args:
        logits: float ``[N, M]``, before the sigmoid.
        targets: ``[N, M]`` in [0, 1].
        smoothing: added to each of the two sums below (0.001, WXinlong/SOLO: solov2_head.py).

    Returns:
        float32 ``[N]`` in [0, 1].
    """
    probs, targets = logits.float().sigmoid(), targets.float()
    squares = (probs * probs).sum(dim=1) + (targets * targets).sum(dim=1)
    return 1 - 2 * (probs * targets).sum(dim=1) / (squares + 2 * smoothing)
