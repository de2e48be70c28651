"""Losses as pure functions; each computes in float32 whatever the precision of its inputs."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy

from efficientps.structures import IGNORE_INDEX


def hard_pixel_cross_entropy(
    logits: Tensor, target: Tensor, *, fraction: float = 0.25, scope: Literal["image", "batch"] = "image"
) -> Tensor:
    """Return the mean cross entropy over the worst pixels (EfficientPS, Sec. 3.3: weight 4/(H*W) on the worst 25 %).

    Ignored pixels have a loss of 0 and count in the number of pixels, so that the weight of a pixel does not depend on
    how much of its image is void; an image without any labelled pixel adds 0.

    Args:
        logits: float ``[B, C, H, W]``, before the softmax.
        target: int64 ``[B, H, W]``, train_id or ``IGNORE_INDEX``.
        fraction: share of the pixels that counts, in (0, 1].
        scope: the worst quarter of each ``image`` (the paper) or of the whole ``batch`` (DeepSceneSeg/EfficientPS:
            efficientps_semantic_head.py). They agree at one image per device.

    Returns:
        A float32 scalar.
    """
    loss = cross_entropy(logits.float(), target, ignore_index=IGNORE_INDEX, reduction="none")
    loss = loss.flatten(1) if scope == "image" else loss.reshape(1, -1)
    kept = max(1, int(fraction * loss.shape[1]))
    return loss.topk(kept, dim=1, sorted=False).values.mean()
