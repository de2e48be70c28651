"""Which query learns which segment: the assignment of least cost, by classes and boxes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from efficientps.models.detr.targets import SegmentTargets

CLASS_COST, BOX_COST, GIOU_COST = 1.0, 5.0, 2.0
"""Of a probability, a sum of four absolute differences and a generalised IoU (facebookresearch/detr:main.py)."""


class Matches(NamedTuple):
    """Pairs of queries and segments of a batch; int64 ``[M]`` each."""

    images: Tensor
    queries: Tensor
    segments: Tensor


@torch.no_grad()
def match(class_logits: Tensor, boxes: Tensor, targets: Sequence[SegmentTargets]) -> list[Matches]:
    """Assign to each segment a query of its own, image by image and decoder layer by decoder layer.

    Args:
        class_logits: float32 ``[D, B, Q, C + 1]``.
        boxes: float32 ``[D, B, Q, 4]``, cxcywh as fractions of the image.
        targets: of the B images, none with more than Q segments.

    Returns:
        One for each of the D layers, ordered by image and query.
    """
    probs = class_logits.softmax(dim=-1)
    pairs: list[list[Tensor]] = [[] for _ in class_logits]
    for image, target in enumerate(targets):
        costs = _costs(probs[:, image], boxes[:, image], target).cpu()
        for layer, cost in enumerate(costs.numpy()):
            queries, segments = linear_sum_assignment(cost)
            pairs[layer].append(torch.from_numpy(np.stack([np.full_like(queries, image), queries, segments])))
    return [Matches(*torch.cat(of_layer, dim=1).to(boxes.device)) for of_layer in pairs]


def _costs(probs: Tensor, boxes: Tensor, target: SegmentTargets) -> Tensor:
    """Return the cost ``[D, Q, N]`` of each pair in an image; what is not a number costs more than anything."""
    layers, queries = boxes.shape[:2]
    flat, wanted = boxes.flatten(0, 1), target.boxes
    giou: Tensor = generalized_box_iou(box_convert(flat, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy"))
    cost = BOX_COST * torch.cdist(flat, wanted, p=1) - GIOU_COST * giou
    cost = cost.view(layers, queries, -1) - CLASS_COST * probs[..., target.labels]
    return cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
