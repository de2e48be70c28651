"""Masks of kernels: each kernel, convolved with the mask features, is the mask of its object over the whole image."""

from __future__ import annotations

import torch
from torch import Tensor

_MASKS_AT_A_TIME = 64

_PIXELS_AT_A_TIME_ON_CUDA = 1 << 25
"""Pixels of masks that are drawn together; three float32 tensors of this size take 400 MB."""


def dynamic_convolution(kernels: Tensor, features: Tensor) -> Tensor:
    """Return the mask logits of kernels ``[N, E]`` over features ``[E, h, w]``, float32 ``[N, h, w]``."""
    logits = kernels.to(features.dtype) @ features.flatten(1)
    return logits.float().view(len(kernels), *features.shape[1:])


def masks_at_a_time(features: Tensor) -> int:
    """Return how many masks over features ``[E, h, w]`` are drawn together; on a GPU many, each call costs time."""
    return max(1, _PIXELS_AT_A_TIME_ON_CUDA // max(1, features[0].numel())) if features.is_cuda else _MASKS_AT_A_TIME


def draw_masks(kernels: Tensor, features: Tensor, mask_thresh: float = 0.5) -> tuple[Tensor, Tensor]:
    """Draw masks, a chunk at a time so that their probabilities are never held together.

    Args:
        kernels: ``[N, E]``.
        features: ``[E, h, w]``.
        mask_thresh: a mask is where the probability is higher than this number.

    Returns:
        Masks, bool ``[N, h * w]``; and the mean probability inside each,
        float32 ``[N]``, 0 for an empty one.
    """
    masks, maskness = [], []
    for chunk in torch.split(kernels, masks_at_a_time(features)):
        probs = dynamic_convolution(chunk, features).flatten(1).sigmoid()
        inside = probs > mask_thresh
        masks.append(inside)
        maskness.append((probs * inside).sum(dim=1) / inside.sum(dim=1).clamp(min=1))
    return torch.cat(masks), torch.cat(maskness)
