"""Boxes of queries: conversion of the detector's boxes to pixels, and boxes around masks."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientps.structures.boxes_of_masks import occupied, span


def enclosing_boxes(mask_logits: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return boxes outside of which no logit is positive, once the masks are enlarged to the image.

    Bilinear enlargement of a cell of stride 4 ends at the centres of its neighbours, 2 pixels beyond the cell.

    Args:
        mask_logits: ``[N, H/4, W/4]``, over the padded canvas.
        image_size: valid ``(h, w)``; no box reaches beyond it.

    Returns:
        float32 ``[N, 4]``, xyxy in pixels; zeros for a mask without a positive logit.
    """
    inside = mask_logits > 0
    edges = []
    for dim, size in ((1, image_size[1]), (2, image_size[0])):  # along x, then along y
        first, after = span(occupied(inside, dim=dim))
        edges.append([((4 * edge + beyond) * (after > 0)).clamp(0, size) for edge, beyond in ((first, -2), (after, 2))])
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], dim=1).float()


def boxes_in_pixels(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return boxes cxcywh ``[..., 4]``, fractions of an image, as xyxy in its pixels, clipped to it."""
    height, width = image_size
    centre, extent = boxes[..., :2], boxes[..., 2:]
    corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=-1).clamp(0, 1)
    return torch.stack([corners[..., i] * size for i, size in enumerate((width, height, width, height))], dim=-1)
