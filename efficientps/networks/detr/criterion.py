"""The loss terms of DETR's two training steps: of the detector, and of the masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efficientps.networks.detr.detector import Detection
from efficientps.networks.detr.losses import (
    LossWeights,
    box_losses,
    class_loss,
    mask_losses,
    matched_labels,
    matched_masks,
)
from efficientps.networks.detr.mask_head import MaskHead
from efficientps.networks.detr.matcher import Matches
from efficientps.networks.loss_normalizer import NormalizerScope, normalizer
from efficientps.networks.losses import weighted
from efficientps.networks.queries.targets import SegmentTargets


def detection_terms(
    detection: Detection,
    matches: Sequence[Matches],
    targets: Sequence[SegmentTargets],
    number: Tensor,
    *,
    no_object_weight: float,
    weights: LossWeights,
    normalizer_scope: NormalizerScope,
) -> dict[str, Tensor]:
    """Return the weighted terms of classes and boxes of the last decoder layer, and the sum over the earlier layers.

    Args:
        detection: output of the detector for the batch.
        matches: pairs of queries and segments, one entry for each decoder layer.
        targets: segments of each image.
        number: number of segments, which the terms of the boxes are divided by.
        no_object_weight: weight of the class of queries without a segment.
        weights: weights of the terms.
        normalizer_scope: the terms of the classes are divided by the queries of all processes or of each process.
    """
    num_classes = detection.class_logits.shape[-1] - 1
    class_weights = torch.ones(num_classes + 1, device=number.device)
    class_weights[-1:].fill_(no_object_weight)
    # The sum of all queries' weights, counted in queries without a segment, of which there is at least one.
    segments = len(matches[-1].images)
    others = detection.boxes.shape[1] * detection.boxes.shape[2] - segments
    counted = scalar(segments / no_object_weight + others, number)
    weight = normalizer(counted, scope=normalizer_scope, device=number.device) * no_object_weight
    by_layer = []
    for logits, boxes, of_layer in zip(detection.class_logits, detection.boxes, matches, strict=True):
        labels = matched_labels(of_layer, targets, logits.shape[:2], no_object=num_classes)
        l1, giou = box_losses(boxes, of_layer, targets, weights)
        by_layer.append(
            {
                "loss_class": weighted(weights.classes, class_loss(logits, labels, class_weights)) / weight,
                "loss_box": l1 / number,
                "loss_giou": giou / number,
            }
        )
    *earlier, last = by_layer
    if earlier:
        last["loss_earlier_layers"] = torch.stack([value for terms in earlier for value in terms.values()]).sum()
    return last


def mask_terms(
    mask_head: MaskHead,
    detection: Detection,
    levels: Sequence[Tensor],
    matches: Matches,
    targets: Sequence[SegmentTargets],
    number: Tensor,
    *,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """Return the weighted terms of the masks of the matched queries.

    Args:
        mask_head: draws the masks.
        detection: output of the detector for the batch.
        levels: the backbone's four levels, finest first.
        matches: pairs of queries of the last decoder layer and segments.
        targets: segments of each image.
        number: number of segments, which the terms are divided by.
        weights: weights of the terms.
    """
    if len(matches.images) == 0:  # the mask of one query, times 0, keeps every parameter connected to the loss
        nothing = torch.zeros(1, dtype=torch.int64, device=number.device)
        unused = 0 * mask_head(detection, levels[:3], nothing, nothing).float().sum()
        return {"loss_mask": unused, "loss_dice": unused}
    logits = mask_head(detection, levels[:3], matches.images, matches.queries).float()
    masks = matched_masks(matches, targets)
    logits = interpolate(logits[:, None], size=masks.shape[-2:], mode="bilinear")[:, 0]
    focal, dice = mask_losses(logits, masks, weights)
    return {"loss_mask": focal / number, "loss_dice": dice / number}


def scalar(number: float, like: Tensor) -> Tensor:
    """Return a number as a float32 scalar on a tensor's device; it is filled in there, without a blocking copy."""
    return torch.full((), number, dtype=torch.float32, device=like.device)
