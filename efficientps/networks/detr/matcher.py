"""Assign segments to queries at the least total cost of classes and boxes (Hungarian matching)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from efficientps.networks.queries.targets import SegmentTargets


@dataclass(frozen=True)
class MatchCosts:
    """Factors of the cost of a query for a segment (facebookresearch/detr:main.py, ``set_cost_*``).

    Attributes:
        classes: factor of the probability of the segment's class, which lowers the cost.
        box: factor of the sum of the four absolute differences of the boxes.
        giou: factor of the generalised IoU, which lowers the cost.
    """

    classes: float = 1.0
    box: float = 5.0
    giou: float = 2.0


PUBLISHED_COSTS = MatchCosts()


class Matches(NamedTuple):
    """Pairs of queries and segments of a batch; int64 ``[M]`` each."""

    images: Tensor
    queries: Tensor
    segments: Tensor  # index of the segment in its image
    rows: Tensor  # index of the segment among those of all images in order


@torch.no_grad()
def match(
    class_logits: Tensor, boxes: Tensor, targets: Sequence[SegmentTargets], costs: MatchCosts = PUBLISHED_COSTS
) -> list[Matches]:
    """Assign to each segment a query of its own, image by image and decoder layer by decoder layer.

    Args:
        class_logits: float32 ``[D, B, Q, C + 1]``.
        boxes: float32 ``[D, B, Q, 4]``, cxcywh as fractions of the image.
        targets: targets of the B images, none with more than Q segments.
        costs: factors of the three parts of the cost.

    Returns:
        One for each of the D layers, ordered by image and query.
    """
    probs = class_logits.softmax(dim=-1)
    numbers = [len(target.labels) for target in targets]
    starts = np.cumsum([0, *numbers])
    # One transfer for all images, because the host waits for each transfer.
    flat = torch.cat([cost.flatten() for cost in _costs_of_images(probs, boxes, targets, costs)]).cpu().numpy()
    layers, _, queries = boxes.shape[:3]
    ends = np.cumsum([layers * queries * number for number in numbers])
    pairs: list[list[np.ndarray[Any, Any]]] = [[] for _ in range(layers)]
    for image, of_image in enumerate(np.split(flat, ends[:-1])):
        for layer, cost in enumerate(of_image.reshape(layers, queries, numbers[image])):
            chosen, segments = linear_sum_assignment(cost)
            pairs[layer].append(np.stack([np.full_like(chosen, image), chosen, segments, starts[image] + segments]))
    matched = torch.from_numpy(np.stack([np.concatenate(of_layer, axis=1) for of_layer in pairs]))
    return [Matches(*of_layer) for of_layer in matched.to(boxes.device, non_blocking=True)]


def _costs_of_images(
    probs: Tensor, boxes: Tensor, targets: Sequence[SegmentTargets], costs: MatchCosts
) -> list[Tensor]:
    """Return the costs ``[D, Q, N]`` of each image."""
    if not boxes.is_cuda:
        return [_costs(probs[:, image], boxes[:, image], target, costs) for image, target in enumerate(targets)]
    # One computation for all images: pairs of different images are computed for nothing, but a device spends less time
    # on them than on one computation for each image.
    labels, wanted = (torch.cat(parts) for parts in zip(*((t.labels, t.boxes) for t in targets), strict=True))
    joined = SegmentTargets(labels, wanted, targets[0].masks)
    of_pairs = _costs(probs.flatten(1, 2), boxes.flatten(1, 2), joined, costs).view(*boxes.shape[:3], len(labels))
    by_image = torch.split(of_pairs, [len(target.labels) for target in targets], dim=-1)
    return [cost[:, image] for image, cost in enumerate(by_image)]


def _costs(probs: Tensor, boxes: Tensor, target: SegmentTargets, costs: MatchCosts) -> Tensor:
    """Return the cost ``[D, Q, N]`` of each pair in an image; NaN becomes a cost that is higher than all others."""
    layers, queries = boxes.shape[:2]
    flat, wanted = boxes.flatten(0, 1), target.boxes
    giou: Tensor = generalized_box_iou(box_convert(flat, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy"))
    cost = costs.box * torch.cdist(flat, wanted, p=1) - costs.giou * giou
    cost = cost.view(layers, queries, -1) - costs.classes * probs[..., target.labels]
    return cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
