"""Fused logits of mask and semantic logits (EfficientPS, Eq. 3)."""

from __future__ import annotations

from torch import Tensor


def fused_logits(mask_logits: Tensor, semantic_logits: Tensor) -> Tensor:
    """Return FL = (sigmoid(A) + sigmoid(B)) * (A + B), element by element (EfficientPS, Eq. 3).

    Args:
        mask_logits: A, of the instance head.
        semantic_logits: B, of the semantic head for the instance's class, of the same shape.

    Two that agree add up, two that contradict each other cancel out:

        >>> import torch
        >>> fused_logits(torch.tensor([2.0, 2.0]), torch.tensor([2.0, -2.0]))
        tensor([7.0464, 0.0000])
    """
    return (mask_logits.sigmoid() + semantic_logits.sigmoid()) * (mask_logits + semantic_logits)
