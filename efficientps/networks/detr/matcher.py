"""Which query learns which segment: the assignment of least cost, by classes and boxes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from efficientps.networks.queries.targets import SegmentTargets

CLASS_COST, BOX_COST, GIOU_COST = 1.0, 5.0, 2.0
"""Of a probability, a sum of four absolute differences and a generalised IoU (facebookresearch/detr:main.py)."""


class Matches(NamedTuple):
    """Pairs of queries and segments of a batch; int64 ``[M]`` each."""

    images: Tensor
    queries: Tensor
    segments: Tensor  # each the number of a segment in its image
    rows: Tensor  # and among the segments of all images, one image's after the other's


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
    numbers = [len(target.labels) for target in targets]
    starts = np.cumsum([0, *numbers])
    # All images in one transfer: it is what the host waits for.
    flat = torch.cat([cost.flatten() for cost in _costs_of_images(probs, boxes, targets)]).cpu().numpy()
    layers, _, queries = boxes.shape[:3]
    ends = np.cumsum([layers * queries * number for number in numbers])
    pairs: list[list[np.ndarray[Any, Any]]] = [[] for _ in range(layers)]
    for image, costs in enumerate(np.split(flat, ends[:-1])):
        for layer, cost in enumerate(costs.reshape(layers, queries, numbers[image])):
            found, segments = linear_sum_assignment(cost)
            pairs[layer].append(np.stack([np.full_like(found, image), found, segments, starts[image] + segments]))
    matched = torch.from_numpy(np.stack([np.concatenate(of_layer, axis=1) for of_layer in pairs]))
    return [Matches(*of_layer) for of_layer in matched.to(boxes.device, non_blocking=True)]


def _costs_of_images(probs: Tensor, boxes: Tensor, targets: Sequence[SegmentTargets]) -> list[Tensor]:
    """Return the costs ``[D, Q, N]`` of each image."""
    if not boxes.is_cuda:
        return [_costs(probs[:, image], boxes[:, image], target) for image, target in enumerate(targets)]
    # The pairs of different images are computed for nothing: that takes a device less time than to begin anew.
    labels, wanted = (torch.cat(parts) for parts in zip(*((t.labels, t.boxes) for t in targets), strict=True))
    costs = _costs(probs.flatten(1, 2), boxes.flatten(1, 2), SegmentTargets(labels, wanted, targets[0].masks))
    costs = costs.view(*boxes.shape[:3], len(labels))
    by_image = torch.split(costs, [len(target.labels) for target in targets], dim=-1)
    return [cost[:, image] for image, cost in enumerate(by_image)]


def _costs(probs: Tensor, boxes: Tensor, target: SegmentTargets) -> Tensor:
    """Return the cost ``[D, Q, N]`` of each pair in an image; what is not a number costs more than anything."""
    layers, queries = boxes.shape[:2]
    flat, wanted = boxes.flatten(0, 1), target.boxes
    giou: Tensor = generalized_box_iou(box_convert(flat, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy"))
    cost = BOX_COST * torch.cdist(flat, wanted, p=1) - GIOU_COST * giou
    cost = cost.view(layers, queries, -1) - CLASS_COST * probs[..., target.labels]
    return cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
