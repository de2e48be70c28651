"""Boxes as offsets from other boxes, and back (Girshick et al., "Rich feature hierarchies", Appendix C).

The numbers are those of torchvision's ``BoxCoder``, bit by bit, from fewer operations and without a copy of the weights
to the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

LARGEST_SCALE = 1000 / 16
"""Largest ratio of a side of a box to that of its reference (facebookresearch/detectron: BBOX_XFORM_CLIP)."""


def encode_boxes(boxes: Tensor, references: Tensor, *, centre_weight: float, size_weight: float) -> Tensor:
    """Return the offsets dx, dy, dw, dh that turn reference boxes into boxes, float32 ``[..., 4]``.

    Args:
        boxes: float32 ``[..., 4]``, xyxy.
        references: float32 ``[..., 4]``, xyxy; one for each box.
        centre_weight: factor of dx and dy.
        size_weight: factor of dw and dh.
    """
    centre, size = _centre_and_size(boxes)
    reference_centre, reference_size = _centre_and_size(references)
    shift = centre_weight * (centre - reference_centre) / reference_size
    scale = size_weight * (size / reference_size).log()
    return torch.cat([shift, scale], dim=-1)


def decode_boxes(
    deltas: Tensor,
    references: Tensor,
    *,
    centre_weight: float,
    size_weight: float,
    largest_scale: float = LARGEST_SCALE,
) -> Tensor:
    """Return the boxes at offsets ``deltas`` from reference boxes, float32 ``[..., 4]``; inverse of ``encode_boxes``.

    Args:
        deltas: float32 ``[..., 4]``: dx, dy, dw, dh.
        references: float32, xyxy; broadcast against the deltas.
        centre_weight: divisor of dx and dy.
        size_weight: divisor of dw and dh.
        largest_scale: largest ratio of a side of a box to that of its reference.
    """
    reference_centre, reference_size = _centre_and_size(references)
    centre = deltas[..., :2] / centre_weight * reference_size + reference_centre
    size = (deltas[..., 2:] / size_weight).clamp(max=math.log(largest_scale)).exp() * reference_size
    return torch.cat([centre.sub(size, alpha=0.5), centre.add(size, alpha=0.5)], dim=-1)


def check_scale(owner: str, largest_scale: float) -> None:
    """Refuse a ``largest_scale`` of a part of the network that no box can have.

    Raises:
        ValueError: it is 0 or less.
    """
    if largest_scale <= 0:
        raise ValueError(f"largest_scale of the {owner} is {largest_scale}; it must be above 0.")


def clip_boxes(boxes: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return boxes that reach nowhere beyond their image.

    Args:
        boxes: float32 ``[B, R, 4]``, xyxy in pixels.
        image_sizes: ``(h, w)`` of each of the B images.
    """
    if len(set(image_sizes)) == 1:  # then no limits travel to the device
        clipped: Tensor = clip_boxes_to_image(boxes, image_sizes[0])
        return clipped
    limits = boxes.new_tensor([[width, height, width, height] for height, width in image_sizes])
    return boxes.clamp(min=0).minimum(limits[:, None])


def large_enough(boxes: Tensor, min_size: float) -> Tensor:
    """Return whether no side of a box is shorter than ``min_size``, bool ``[...]`` for boxes ``[..., 4]``."""
    return (boxes[..., 2:] - boxes[..., :2] >= min_size).all(dim=-1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    size = high - low
    return low.add(size, alpha=0.5), size
