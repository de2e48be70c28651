"""The box branch: class and refined box of each proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from efficientps.layers.norm_act import NormAct
from efficientps.networks.counts import check_counts
from efficientps.networks.efficientps.mask_rcnn.box_coding import (
    LARGEST_SCALE,
    check_scale,
    decode_boxes,
    encode_boxes,
    large_enough,
)
from efficientps.networks.efficientps.mask_rcnn.box_convention import ConventionName, convention_of
from efficientps.networks.efficientps.mask_rcnn.matching import match_boxes, objects_of_all_images
from efficientps.networks.efficientps.mask_rcnn.pyramid_roi_align import pyramid_roi_align
from efficientps.networks.efficientps.mask_rcnn.sampling import BalancedSampler
from efficientps.networks.efficientps.mask_rcnn.suppression import grouped_nms
from efficientps.networks.loss_normalizer import NormalizerScope, normalizer
from efficientps.networks.losses import weighted
from efficientps.structures import FeaturePyramid, InstanceTargets


class SampledProposals(NamedTuple):
    """The proposals of a batch that count in the losses, image after image: R of them, P of them positive."""

    boxes: Tensor  # float32 [R, 4]
    matched: Tensor  # int64 [R], index of the object among those of all images; no object's where background
    classes: Tensor  # int64 [R], 0 is background, thing_id + 1 otherwise
    positives: Tensor  # int64 [P], ascending: the places of the positives among the R
    counts: list[int]  # proposals of each image
    positive_counts: list[int]  # positives of each image


class Detections(NamedTuple):
    """The detections of one image by falling score."""

    boxes: Tensor  # float32 [N, 4]
    scores: Tensor  # float32 [N]
    labels: Tensor  # int64 [N], thing_id


class BoxBranch(nn.Module):
    """Two fully connected layers over 7x7 features, then class and class-specific box.

    The numbers are those of DeepSceneSeg/EfficientPS:configs. Inside, class 0 is background and class c is thing
    c - 1.

    Args:
        num_things: number of thing classes.
        in_channels: channels of the pyramid.
        hidden: width of the fully connected layers.
        norm_act: builds the normalisation with its activation after the fully connected layers (as Fig. 2 draws); None
            is a plain ReLU, as in the authors' code and the paper's parameter count.
        output_size: bins of RoIAlign (7; Fig. 2 draws 14, which alone would cost 38 M parameters).
        samples_per_image: proposals that count in the loss.
        positive_fraction: largest share of positives among the proposals that count in the loss.
        positive_iou: overlap from which a proposal is positive.
        box_loss_beta: difference at which the smooth L1 loss becomes linear.
        delta_weights: factors of the offsets of a box's centre and of its logarithmic size, before they are compared
            (10 and 5, rbgirshick/py-faster-rcnn: the inverse of BBOX_NORMALIZE_STDS).
        detection_thresh: lowest score of a detection; low, for average precision.
        nms_thresh: IoU above which the detection with the lower score, of two of one class, is dropped.
        max_detections: largest number of detections of one image.
        sampling_ratio: samples of RoIAlign along each side of a bin.
        aligned: whether RoIAlign has the centres of pixels at half-integers; False shifts by half a pixel, as the heads
            of torchvision do.
        finest_scale: boxes of less than twice this side, in pixels, are read from the finest level, and each doubling
            leads to the next coarser one (56, DeepSceneSeg/EfficientPS:configs).
        smallest_side: detections with a shorter side, in pixels, are left out (0.01, torchvision's
            ``remove_small_boxes`` in ``RoIHeads``).
        largest_scale: largest ratio of a side of a detection to that of its proposal (1000 / 16,
            facebookresearch/detectron: BBOX_XFORM_CLIP).
        class_weight: weight of the loss of the classes (1, EfficientPS, Sec. 3.4).
        box_weight: weight of the loss of the boxes (1, EfficientPS, Sec. 3.4).
        box_convention: where samples of RoIAlign and clipped boxes lie, which proposals belong to an object, and the
            initial weights (``BoxConvention``).
        normalizer_scope: the losses are divided by the number of samples of all processes (``global``) or of each
            process (``device``).

    Raises:
        ValueError: a count is below 1, or ``largest_scale`` is not above 0.
    """

    def __init__(
        self,
        num_things: int,
        in_channels: int = 256,
        *,
        hidden: int = 1024,
        norm_act: NormAct | None = None,
        output_size: int = 7,
        samples_per_image: int = 256,
        positive_fraction: float = 0.25,
        positive_iou: float = 0.5,
        box_loss_beta: float = 1.0,
        delta_weights: tuple[float, float] = (10.0, 5.0),
        detection_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        max_detections: int = 100,
        sampling_ratio: int = 2,
        aligned: bool = True,
        finest_scale: float = 56.0,
        smallest_side: float = 1e-2,
        largest_scale: float = LARGEST_SCALE,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        box_convention: ConventionName = "torchvision",
        normalizer_scope: NormalizerScope = "global",
    ) -> None:
        super().__init__()
        check_counts(
            "box branch",
            {
                "hidden": hidden,
                "output_size": output_size,
                "samples_per_image": samples_per_image,
                "max_detections": max_detections,
                "sampling_ratio": sampling_ratio,
            },
        )
        check_scale("box branch", largest_scale)

        def activation() -> nn.Module:
            return nn.ReLU(inplace=True) if norm_act is None else norm_act(hidden)

        self.fc = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * output_size**2, hidden),
            activation(),
            nn.Linear(hidden, hidden),
            activation(),
        )
        self.predictor = FastRCNNPredictor(hidden, num_things + 1)
        self.convention = convention_of(box_convention)
        if self.convention.small_initial_weights:
            self._init_small()
        self.positive_iou = positive_iou
        self.sampler = BalancedSampler(samples_per_image, positive_fraction)
        self.output_size = output_size
        self.box_loss_beta = box_loss_beta
        self.detection_thresh = detection_thresh
        self.nms_thresh = nms_thresh
        self.max_detections = max_detections
        self.centre_weight, self.size_weight = delta_weights
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.finest_scale = finest_scale
        self.smallest_side = smallest_side
        self.largest_scale = largest_scale
        self.class_weight, self.box_weight = class_weight, box_weight
        self.normalizer_scope: NormalizerScope = normalizer_scope

    def forward(self, pyramid: FeaturePyramid, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return class logits ``[R, 1 + num_things]`` and deltas ``[R, 1 + num_things, 4]`` in float32."""
        features = pyramid_roi_align(
            pyramid,
            boxes,
            output_size=self.output_size,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            finest_scale=self.finest_scale,
            shift=self.convention.roi_shift,
        )
        class_logits, deltas = self.predictor(self.fc(features))
        return class_logits.float(), deltas.float().unflatten(1, (-1, 4))

    @torch.no_grad()
    def sample(self, proposals: Sequence[Tensor], targets: Sequence[InstanceTargets]) -> SampledProposals:
        """Match proposals, and the objects' own boxes, to objects, and draw those that count."""
        candidates = [torch.cat([boxes, target["boxes"]]) for boxes, target in zip(proposals, targets, strict=True)]
        matched = [self._match(target["boxes"], boxes) for boxes, target in zip(candidates, targets, strict=True)]
        classes = [
            torch.where(image >= 0, target["labels"][image.clamp(min=0)] + 1, 0)
            if len(target["labels"])
            else torch.zeros_like(image)
            for image, target in zip(matched, targets, strict=True)
        ]
        sample = self.sampler(classes)
        fields = (torch.cat(candidates), objects_of_all_images(matched, targets), torch.cat(classes))
        boxes, owners, labels = (field.index_select(0, sample.indices) for field in fields)
        return SampledProposals(boxes, owners, labels, sample.positives, sample.counts, sample.positive_counts)

    def _match(self, objects: Tensor, candidates: Tensor) -> Tensor:
        """Return the index of each candidate's object or ``BACKGROUND``; the last candidates are the objects."""
        iou = self.positive_iou
        if not self.convention.matches_before_objects:
            return match_boxes(objects, candidates, positive_iou=iou, negative_iou=iou)
        proposals = candidates[: len(candidates) - len(objects)]
        closest_iou = iou if self.convention.closest_box_belongs_to_object else None
        matched = match_boxes(objects, proposals, positive_iou=iou, negative_iou=iou, closest_iou=closest_iou)
        return torch.cat([matched, torch.arange(len(objects), device=matched.device)])

    def _init_small(self) -> None:
        """Initialise as mmdetection 1 does (DeepSceneSeg/EfficientPS:mmdet/models/bbox_heads, ``init_weights``)."""
        for layer in self.fc:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer, deviation in ((self.predictor.cls_score, 0.01), (self.predictor.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def loss(
        self, pyramid: FeaturePyramid, sampled: SampledProposals, targets: Sequence[InstanceTargets]
    ) -> dict[str, Tensor]:
        """Return ``loss_classifier`` and ``loss_box_reg`` over the sampled proposals."""
        class_logits, deltas = self(pyramid, torch.split(sampled.boxes, sampled.counts))
        boxes, owners, classes = (field.index_select(0, sampled.positives) for field in sampled[:3])
        objects = torch.cat([target["boxes"] for target in targets])
        box_targets = encode_boxes(
            objects.index_select(0, owners), boxes, centre_weight=self.centre_weight, size_weight=self.size_weight
        )
        box_loss = smooth_l1_loss(
            deltas[sampled.positives, classes], box_targets, beta=self.box_loss_beta, reduction="sum"
        )
        # Summed and divided here: the mean over no proposal at all would be NaN.
        class_loss = cross_entropy(class_logits, sampled.classes, reduction="sum")
        count = normalizer(len(sampled.classes), scope=self.normalizer_scope, device=deltas.device)
        return {
            "loss_classifier": weighted(self.class_weight, class_loss / count),
            "loss_box_reg": weighted(self.box_weight, box_loss / count),
        }

    def predict(
        self, pyramid: FeaturePyramid, proposals: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Return the detections of each image after class-wise non-maximum suppression."""
        class_logits, deltas = self(pyramid, proposals)
        counts = [len(p) for p in proposals]
        references = torch.cat(list(proposals))[:, None]
        # Class 0 is the background, which has no box.
        boxes = decode_boxes(
            deltas[:, 1:],
            references,
            centre_weight=self.centre_weight,
            size_weight=self.size_weight,
            largest_scale=self.largest_scale,
        )
        probs = class_logits.softmax(dim=1)[:, 1:]
        return [
            self._detect(p, b, size)
            for p, b, size in zip(torch.split(probs, counts), torch.split(boxes, counts), image_sizes, strict=True)
        ]

    def _detect(self, probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Detections:
        """Return the detections of one image from probs ``[R, num_things]`` and boxes ``[R, num_things, 4]``."""
        boxes = self.convention.clip(boxes.flatten(0, 1)[None], [image_size])[0].view_as(boxes)
        is_detection = (probs > self.detection_thresh) & large_enough(boxes, self.smallest_side)
        proposal, label = is_detection.nonzero(as_tuple=True)
        boxes, scores = boxes[proposal, label], probs[proposal, label]
        kept = grouped_nms(boxes, scores, label, self.nms_thresh)[: self.max_detections]
        return Detections(boxes.index_select(0, kept), scores.index_select(0, kept), label.index_select(0, kept))
