"""The set losses of DETR (facebookresearch/detr: models/detr.py, models/segmentation.py, weights in main.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, l1_loss
from torchvision.ops import box_convert

from efficientps.networks.detr.matcher import Matches
from efficientps.networks.losses import focal_loss, weighted
from efficientps.networks.queries.targets import SegmentTargets


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms (facebookresearch/detr:main.py, ``*_loss_coef``).

    Attributes:
        classes: weight of the cross entropy of the classes.
        box: weight of the L1 distance of the boxes.
        giou: weight of 1 minus the generalised IoU of the boxes.
        mask: weight of the focal loss of the masks.
        dice: weight of the Dice loss of the masks.
        focal_alpha: weight of the positives in the focal loss.
        focal_gamma: exponent of the focal loss.
        dice_smoothing: added to the numerator and to the denominator of the Dice loss (1,
            facebookresearch/detr:models/segmentation.py, ``dice_loss``).
    """

    classes: float = 1.0
    box: float = 5.0
    giou: float = 2.0
    mask: float = 1.0
    dice: float = 1.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    dice_smoothing: float = 1.0


PUBLISHED_WEIGHTS = LossWeights()


def matched_labels(matches: Matches, targets: Sequence[SegmentTargets], shape: torch.Size, no_object: int) -> Tensor:
    """Return the class int64 ``[B, Q]`` that each query is to learn: its segment's, or ``no_object``."""
    labels = torch.full(shape, no_object, device=matches.images.device)
    labels[matches.images, matches.queries] = _matched(matches, [target.labels for target in targets])
    return labels


def class_loss(class_logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over the queries of the weighted cross entropy, a float32 scalar.

    Args:
        class_logits: ``[B, Q, C + 1]``.
        labels: int64 ``[B, Q]``.
        weights: ``[C + 1]``, of each class.
    """
    return cross_entropy(class_logits.float().flatten(0, 1), labels.flatten(), weights, reduction="sum")


def box_losses(
    boxes: Tensor, matches: Matches, targets: Sequence[SegmentTargets], weights: LossWeights = PUBLISHED_WEIGHTS
) -> tuple[Tensor, Tensor]:
    """Return the sums over the matched queries of L1 and of ``1 - GIoU``, weighted, float32 scalars.

    Args:
        boxes: ``[B, Q, 4]``, cxcywh as fractions of the image.
        matches: M pairs.
        targets: segments of the B images.
        weights: ``box`` and ``giou`` are taken.
    """
    chosen = boxes[matches.images, matches.queries].float()
    wanted = _matched(matches, [target.boxes for target in targets])
    giou = _giou_loss(box_convert(chosen, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy")).sum()
    return weights.box * l1_loss(chosen, wanted, reduction="sum"), weights.giou * giou


def _giou_loss(boxes: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    """Return ``1 - GIoU`` (arXiv 1902.09630) ``[M]`` of M pairs of boxes, xyxy.

    Bit by bit ``generalized_box_iou_loss`` of torchvision, which waits for the device five times to find the pairs
    that meet.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=-1)
    u1, v1, u2, v2 = others.unbind(dim=-1)
    left, top, right, bottom = torch.max(x1, u1), torch.max(y1, v1), torch.min(x2, u2), torch.min(y2, v2)
    meet = (bottom > top) & (right > left)
    shared = torch.where(meet, (right - left) * (bottom - top), 0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    iou = shared / (union + eps)
    around = (torch.max(x2, u2) - torch.min(x1, u1)) * (torch.max(y2, v2) - torch.min(y1, v1))
    return 1 - (iou - ((around - union) / (around + eps)))


def mask_losses(mask_logits: Tensor, masks: Tensor, weights: LossWeights = PUBLISHED_WEIGHTS) -> tuple[Tensor, Tensor]:
    """Return the sums over masks of the focal loss, a mean over pixels, and of the Dice loss, weighted.

    Both are float32 scalars.

    Padding counts as background, as in the authors' code.

    Args:
        mask_logits: ``[M, H, W]``, before the sigmoid.
        masks: bool ``[M, H, W]``.
        weights: ``mask``, ``dice``, the two numbers of the focal loss and the smoothing of the Dice loss are taken.
    """
    logits, wanted = mask_logits.float().flatten(1), masks.float().flatten(1)
    probs = logits.sigmoid()
    # The denominator adds the probabilities; V-Net and SOLOv2 add their squares.
    smoothing = weights.dice_smoothing
    dice = 1 - (2 * (probs * wanted).sum(dim=1) + smoothing) / (probs.sum(dim=1) + wanted.sum(dim=1) + smoothing)
    focal = focal_loss(logits, wanted, alpha=weights.focal_alpha, gamma=weights.focal_gamma) / logits.shape[1]
    return weighted(weights.mask, focal), weighted(weights.dice, dice.sum())


def matched_masks(matches: Matches, targets: Sequence[SegmentTargets]) -> Tensor:
    """Return the masks bool ``[M, H, W]`` of the matched segments."""
    return _matched(matches, [target.masks for target in targets])


def _matched(matches: Matches, of_images: Sequence[Tensor]) -> Tensor:
    """Return the rows ``[M, ...]`` of the matched segments from one tensor ``[N, ...]`` for each image."""
    return torch.cat(list(of_images))[matches.rows]
