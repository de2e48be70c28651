"""The region proposal network: anchors on four levels, their objectness and their proposals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad, smooth_l1_loss
from torchvision.models.detection.rpn import RPNHead, concat_box_prediction_layers

from efficientps.networks.counts import check_counts
from efficientps.networks.efficientps.mask_rcnn.anchors import PyramidAnchors
from efficientps.networks.efficientps.mask_rcnn.box_coding import (
    LARGEST_SCALE,
    check_scale,
    decode_boxes,
    encode_boxes,
    large_enough,
)
from efficientps.networks.efficientps.mask_rcnn.box_convention import ConventionName, convention_of
from efficientps.networks.efficientps.mask_rcnn.matching import BACKGROUND, NEITHER, match_boxes, objects_of_all_images
from efficientps.networks.efficientps.mask_rcnn.sampling import BalancedSampler
from efficientps.networks.efficientps.mask_rcnn.suppression import grouped_nms, nms_of_sorted_groups
from efficientps.networks.loss_normalizer import NormalizerScope, normalizer
from efficientps.networks.losses import weighted
from efficientps.structures import STRIDES, FeaturePyramid, InstanceTargets

_LARGEST_SORTED_GROUP = 4096
"""Candidates of a level up to which suppression on CUDA holds all pairs of them in memory."""


class RegionProposalNetwork(nn.Module):
    """Proposes boxes that may hold an object (Ren et al., "Faster R-CNN").

    The numbers are those of DeepSceneSeg/EfficientPS:configs. The 3x3 convolution is a standard one with ReLU: the
    paper's parameter count fits no other.

    Args:
        in_channels: channels of the pyramid.
        anchor_sizes: side in pixels of the anchors of each level.
        aspect_ratios: height divided by width of the anchors in each cell.
        positive_iou: anchors with a larger overlap are positive, as is the best anchor of each object.
        negative_iou: anchors with a smaller overlap are negative.
        samples_per_image: anchors that count in the loss.
        positive_fraction: largest share of positives among the anchors that count in the loss.
        box_loss_beta: difference at which the smooth L1 loss becomes linear (1/9, facebookresearch/detectron).
        pre_nms_train: candidates of each level in training.
        pre_nms_test: candidates of each level in prediction.
        post_nms_train: proposals of an image in training.
        post_nms_test: proposals of an image in prediction.
        nms_thresh: IoU above which the candidate with the lower score, of two of one level, is dropped.
        smallest_side: candidates with a shorter side, in pixels, are left out (0.001, torchvision's ``min_size``).
        largest_scale: largest ratio of a side of a candidate to that of its anchor (1000 / 16,
            facebookresearch/detectron: BBOX_XFORM_CLIP).
        objectness_weight: weight of the loss of the objectness (1, EfficientPS, Sec. 3.4).
        box_weight: weight of the loss of the boxes (1, EfficientPS, Sec. 3.4).
        box_convention: where anchors and clipped boxes lie, and which anchors belong to an object (``BoxConvention``).
        normalizer_scope: the losses are divided by the number of samples of all processes (``global``) or of each
            process (``device``).

    Raises:
        ValueError: a count is below 1, ``largest_scale`` or an aspect ratio is not above 0, or there is not one anchor
            size for each level.
    """

    def __init__(
        self,
        in_channels: int = 256,
        *,
        anchor_sizes: tuple[int, int, int, int] = (32, 64, 128, 256),
        aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        positive_iou: float = 0.7,
        negative_iou: float = 0.3,
        samples_per_image: int = 256,
        positive_fraction: float = 0.5,
        box_loss_beta: float = 1 / 9,
        pre_nms_train: int = 2000,
        pre_nms_test: int = 1000,
        post_nms_train: int = 2000,
        post_nms_test: int = 1000,
        nms_thresh: float = 0.7,
        smallest_side: float = 1e-3,
        largest_scale: float = LARGEST_SCALE,
        objectness_weight: float = 1.0,
        box_weight: float = 1.0,
        box_convention: ConventionName = "torchvision",
        normalizer_scope: NormalizerScope = "global",
    ) -> None:
        super().__init__()
        check_counts(
            "region proposal network",
            {
                "samples_per_image": samples_per_image,
                "pre_nms_train": pre_nms_train,
                "pre_nms_test": pre_nms_test,
                "post_nms_train": post_nms_train,
                "post_nms_test": post_nms_test,
            },
        )
        check_counts("region proposal network", {"the smallest of anchor_sizes": min(anchor_sizes)})
        if len(anchor_sizes) != len(STRIDES):
            raise ValueError(
                f"anchor_sizes has {len(anchor_sizes)} entries; it has one for each of {len(STRIDES)} levels."
            )
        if not aspect_ratios or min(aspect_ratios) <= 0:
            raise ValueError(f"aspect_ratios is {aspect_ratios}; it must hold numbers above 0, at least one.")
        check_scale("region proposal network", largest_scale)
        self.convention = convention_of(box_convention)
        self.anchors = PyramidAnchors(
            anchor_sizes, aspect_ratios=aspect_ratios, strides=STRIDES, shift=self.convention.anchor_shift
        )
        self.head = RPNHead(in_channels, self.anchors.per_cell)
        self.positive_iou, self.negative_iou = positive_iou, negative_iou
        self.sampler = BalancedSampler(samples_per_image, positive_fraction)
        self.box_loss_beta = box_loss_beta
        self.pre_nms_train, self.pre_nms_test = pre_nms_train, pre_nms_test
        self.post_nms_train, self.post_nms_test = post_nms_train, post_nms_test
        self.nms_thresh = nms_thresh
        self.smallest_side = smallest_side
        self.largest_scale = largest_scale
        self.objectness_weight, self.box_weight = objectness_weight, box_weight
        self.normalizer_scope: NormalizerScope = normalizer_scope

    def loss(
        self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposals of each image, float32 ``[R_i, 4]`` without gradient, and the two loss terms."""
        objectness, deltas, anchors = self.score(pyramid)
        scores, boxes = self._candidates(objectness.detach(), deltas.detach(), anchors, pyramid, self.pre_nms_train)
        canvas = (pyramid.p4.shape[-2] * STRIDES[0], pyramid.p4.shape[-1] * STRIDES[0])
        proposals = self._suppress(
            scores, boxes, self._per_level(pyramid, self.pre_nms_train), [canvas] * len(targets), self.post_nms_train
        )
        matched = [self.match_anchors(target["boxes"], anchors, canvas) for target in targets]
        labels = [torch.where(image >= 0, 1.0, torch.where(image == BACKGROUND, 0.0, -1.0)) for image in matched]
        sample = self.sampler(labels)
        objectness_loss = binary_cross_entropy_with_logits(
            objectness.flatten().index_select(0, sample.indices),
            torch.cat(labels).index_select(0, sample.indices),
            reduction="sum",
        )
        positives = sample.indices.index_select(0, sample.positives)
        objects = torch.cat([target["boxes"] for target in targets])
        owners = objects_of_all_images(matched, targets).index_select(0, positives)
        box_targets = encode_boxes(
            objects.index_select(0, owners),
            anchors.index_select(0, positives % len(anchors)),
            centre_weight=1.0,
            size_weight=1.0,
        )
        box_loss = smooth_l1_loss(
            deltas.reshape(-1, 4).index_select(0, positives), box_targets, beta=self.box_loss_beta, reduction="sum"
        )
        count = normalizer(len(sample.indices), scope=self.normalizer_scope, device=deltas.device)
        return proposals, {
            "loss_objectness": weighted(self.objectness_weight, objectness_loss / count),
            "loss_rpn_box_reg": weighted(self.box_weight, box_loss / count),
        }

    def match_anchors(self, objects: Tensor, anchors: Tensor, canvas: tuple[int, int]) -> Tensor:
        """Return the index of each anchor's object, ``BACKGROUND`` or ``NEITHER``, int64 ``[A]``."""
        closest_iou = self.negative_iou if self.convention.closest_box_belongs_to_object else None
        match = partial(
            match_boxes,
            objects,
            positive_iou=self.positive_iou,
            negative_iou=self.negative_iou,
            each_object_has_one=closest_iou is None,
            closest_iou=closest_iou,
        )
        if not self.convention.trains_anchors_inside:
            return match(anchors)
        height, width = canvas
        inside = ((anchors >= 0) & (anchors <= anchors.new_tensor([width, height, width, height]))).all(dim=1)
        matched = torch.full((len(anchors),), NEITHER, device=anchors.device)
        matched[inside] = match(anchors[inside])
        return matched

    def dense(self, pyramid: FeaturePyramid) -> tuple[Tensor, Tensor, Tensor]:
        """Return the candidates of each image, level by level and there by falling score; K of them.

        Returns:
            Objectness logits float32 ``[B, K]``, boxes float32 ``[B, K, 4]`` and the anchors float32 ``[A, 4]``. The
            anchors are returned only so that a recording of these operations keeps them in memory.
        """
        objectness, deltas, anchors = self.score(pyramid)
        scores, boxes = self._candidates(objectness, deltas, anchors, pyramid, self.pre_nms_test)
        return scores, boxes, anchors

    def decode(
        self, pyramid: FeaturePyramid, dense: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Return the proposals of each image, float32 ``[R_i, 4]``, clipped to its valid size, from its candidates."""
        scores, boxes = dense[:2]
        return self._suppress(
            scores, boxes, self._per_level(pyramid, self.pre_nms_test), image_sizes, self.post_nms_test
        )

    def score(self, pyramid: FeaturePyramid) -> tuple[Tensor, Tensor, Tensor]:
        """Return objectness logits ``[B, A]``, deltas ``[B, A, 4]`` and anchors ``[A, 4]``, all float32."""
        objectness, deltas = concat_box_prediction_layers(*self.head(list(pyramid)))
        batch = len(pyramid.p4)
        anchors = self.anchors([(f.shape[-2], f.shape[-1]) for f in pyramid], pyramid.p4.device)
        return objectness.float().reshape(batch, -1), deltas.float().reshape(batch, -1, 4), anchors

    def _per_level(self, pyramid: FeaturePyramid, pre_nms: int) -> list[int]:
        """Return the number of candidates of each level."""
        return [min(pre_nms, anchors) for anchors in self._anchors_per_level(pyramid)]

    def _anchors_per_level(self, pyramid: FeaturePyramid) -> list[int]:
        return [self.anchors.per_cell * level.shape[-2] * level.shape[-1] for level in pyramid]

    @torch.no_grad()
    def _candidates(
        self, objectness: Tensor, deltas: Tensor, anchors: Tensor, pyramid: FeaturePyramid, pre_nms: int
    ) -> tuple[Tensor, Tensor]:
        """Return the scores ``[B, K]`` and the boxes ``[B, K, 4]`` of the best anchors of each level."""
        scores, places, start = [], [], 0
        for level in torch.split(objectness, self._anchors_per_level(pyramid), dim=1):
            best = level.topk(min(pre_nms, level.shape[1]), dim=1)
            scores.append(best.values)
            places.append(best.indices + start)
            start += level.shape[1]
        chosen = torch.cat(places, dim=1)
        references = anchors.index_select(0, chosen.flatten()).view(*chosen.shape, 4)
        chosen_deltas = deltas.gather(1, chosen[..., None].expand(-1, -1, 4))
        boxes = decode_boxes(
            chosen_deltas, references, centre_weight=1.0, size_weight=1.0, largest_scale=self.largest_scale
        )
        return torch.cat(scores, dim=1), boxes

    @torch.no_grad()
    def _suppress(
        self,
        scores: Tensor,
        boxes: Tensor,
        per_level: Sequence[int],
        image_sizes: Sequence[tuple[int, int]],
        post_nms: int,
    ) -> list[Tensor]:
        """Return the candidates of each image that remain after suppression level by level, by falling score."""
        boxes = self.convention.clip(boxes, image_sizes)
        valid = large_enough(boxes, self.smallest_side)
        if scores.is_cuda and max(per_level) <= _LARGEST_SORTED_GROUP:
            return suppress_together(scores, boxes, valid, per_level, self.nms_thresh, post_nms)
        # On a CPU the loop over the boxes is faster: it skips every pair of which a box is already suppressed.
        return suppress_one_by_one(scores, boxes, valid, per_level, self.nms_thresh, post_nms)


def suppress_one_by_one(
    scores: Tensor, boxes: Tensor, valid: Tensor, per_level: Sequence[int], iou_thresh: float, most: int
) -> list[Tensor]:
    """Return the boxes that stay of each image, float32 ``[R_i, 4]`` by falling score, ``most`` of them at most.

    Args:
        scores: float32 ``[B, K]``, falling within each level.
        boxes: float32 ``[B, K, 4]``.
        valid: bool ``[B, K]``; the other boxes are left out.
        per_level: number of candidates of each level; they add up to K.
        iou_thresh: IoU above which the box with the lower score, of two of one level, is dropped.
        most: boxes to return of an image.
    """
    level = torch.cat([torch.full((number,), i, device=boxes.device) for i, number in enumerate(per_level)])
    proposals = []
    for image_scores, image_boxes, image_valid in zip(scores, boxes, valid, strict=True):
        chosen = image_valid.nonzero().squeeze(1)
        image_boxes = image_boxes.index_select(0, chosen)
        kept = grouped_nms(image_boxes, image_scores.index_select(0, chosen), level.index_select(0, chosen), iou_thresh)
        proposals.append(image_boxes.index_select(0, kept[:most]))
    return proposals


def suppress_together(
    scores: Tensor, boxes: Tensor, valid: Tensor, per_level: Sequence[int], iou_thresh: float, most: int
) -> list[Tensor]:
    """Return what ``suppress_one_by_one`` returns, for all images and levels together: the host waits once."""
    grouped_boxes, grouped_valid = _by_level(boxes, per_level), _by_level(valid[..., None], per_level)[..., 0]
    kept, numbers = nms_of_sorted_groups(grouped_boxes.flatten(0, 1), grouped_valid.flatten(0, 1), iou_thresh)
    levels = len(per_level)
    by_level = kept.view(len(scores), levels, -1)
    stay = torch.cat([by_level[:, i, :number] for i, number in enumerate(per_level)], dim=1)
    order = scores.masked_fill(~stay, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :most]
    ordered = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    totals = [sum(numbers[image * levels : (image + 1) * levels]) for image in range(len(scores))]
    return [image[:total] for image, total in zip(ordered, totals, strict=True)]


def _by_level(values: Tensor, per_level: Sequence[int]) -> Tensor:
    """Return values ``[B, K, C]`` as ``[B, levels, max(per_level), C]``; zeros fill up the shorter levels."""
    longest = max(per_level)
    if min(per_level) == longest:
        return values.view(len(values), len(per_level), longest, -1)
    parts = torch.split(values, list(per_level), dim=1)
    missing = [longest - number for number in per_level]
    return torch.stack(
        [pad(x, (0, 0, 0, short)) if short else x for x, short in zip(parts, missing, strict=True)], dim=1
    )
