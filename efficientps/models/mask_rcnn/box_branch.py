"""The box branch: class and refined box of each proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from efficientps.layers.norm_act import NormAct
from efficientps.models.mask_rcnn.roi_pooling import pyramid_roi_align
from efficientps.models.normalizer import NormalizerScope, normalizer
from efficientps.structures import FeaturePyramid, InstanceTargets


class SampledProposals(NamedTuple):
    """The proposals of one image that count in the losses, positives first or not, R of them."""

    boxes: Tensor  # float32 [R, 4]
    matched: Tensor  # int64 [R], index of the object; 0 where background
    classes: Tensor  # int64 [R], 0 is background, thing_id + 1 otherwise


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
        in_channels: of the pyramid.
        hidden: width of the fully connected layers.
        norm_act: normalisation and activation after them (as Fig. 2 draws); None is a plain ReLU, as in the authors'
            code and the paper's parameter count.
        output_size: bins of RoIAlign (7; Fig. 2 draws 14, which alone would cost 38 M parameters).
        samples_per_image: proposals that count in the loss.
        positive_fraction: largest share of positives among them.
        positive_iou: overlap from which a proposal is positive.
        box_loss_beta: where the smooth L1 loss turns linear.
        detection_thresh: lowest score of a detection; low, for average precision.
        nms_thresh: IoU above which the weaker of two detections of a class goes.
        max_detections: of one image.
        aligned: see ``pyramid_roi_align``.
        normalizer_scope: see ``normalizer``.
    """

    def __init__(
        self,
        num_things: int,
        *,
        in_channels: int = 256,
        hidden: int = 1024,
        norm_act: NormAct | None = None,
        output_size: int = 7,
        samples_per_image: int = 256,
        positive_fraction: float = 0.25,
        positive_iou: float = 0.5,
        box_loss_beta: float = 1.0,
        detection_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        max_detections: int = 100,
        aligned: bool = True,
        normalizer_scope: NormalizerScope = "global",
    ) -> None:
        super().__init__()

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
        self.box_coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
        self.matcher = Matcher(positive_iou, positive_iou, allow_low_quality_matches=False)
        self.sampler = BalancedPositiveNegativeSampler(samples_per_image, positive_fraction)
        self.output_size = output_size
        self.box_loss_beta = box_loss_beta
        self.detection_thresh = detection_thresh
        self.nms_thresh = nms_thresh
        self.max_detections = max_detections
        self.aligned = aligned
        self.normalizer_scope: NormalizerScope = normalizer_scope

    def forward(self, pyramid: FeaturePyramid, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return class logits ``[R, 1 + num_things]`` and deltas ``[R, 1 + num_things, 4]`` in float32."""
        features = pyramid_roi_align(pyramid, boxes, output_size=self.output_size, aligned=self.aligned)
        class_logits, deltas = self.predictor(self.fc(features))
        return class_logits.float(), deltas.float().unflatten(1, (-1, 4))

    @torch.no_grad()
    def sample(self, proposals: Sequence[Tensor], targets: Sequence[InstanceTargets]) -> list[SampledProposals]:
        """Match proposals, and the objects' own boxes, to objects, and draw those that count."""
        candidates, matches, classes = [], [], []
        for boxes, target in zip(proposals, targets, strict=True):
            boxes = torch.cat([boxes, target["boxes"]])
            if len(target["boxes"]):
                matched = self.matcher(box_iou(target["boxes"], boxes))
                matched_classes = torch.where(matched >= 0, target["labels"][matched.clamp(min=0)] + 1, 0)
            else:
                matched = torch.full((len(boxes),), Matcher.BELOW_LOW_THRESHOLD, device=boxes.device)
                matched_classes = torch.zeros_like(matched)
            candidates.append(boxes)
            matches.append(matched.clamp(min=0))
            classes.append(matched_classes)
        positives, negatives = self.sampler(classes)
        drawn = [(p | n).bool().nonzero().squeeze(1) for p, n in zip(positives, negatives, strict=True)]
        return [
            SampledProposals(b[d], m[d], c[d]) for b, m, c, d in zip(candidates, matches, classes, drawn, strict=True)
        ]

    def loss(
        self, pyramid: FeaturePyramid, sampled: Sequence[SampledProposals], targets: Sequence[InstanceTargets]
    ) -> dict[str, Tensor]:
        """Return ``loss_classifier`` and ``loss_box_reg`` over the sampled proposals."""
        class_logits, deltas = self(pyramid, [s.boxes for s in sampled])
        classes = torch.cat([s.classes for s in sampled])
        box_targets = torch.cat(
            [
                self.box_coder.encode_single(t["boxes"][s.matched] if len(t["boxes"]) else s.boxes, s.boxes)
                for s, t in zip(sampled, targets, strict=True)
            ]
        )
        positive = classes.nonzero().squeeze(1)
        box_loss = smooth_l1_loss(
            deltas[positive, classes[positive]], box_targets[positive], beta=self.box_loss_beta, reduction="sum"
        )
        # Summed and divided here: the mean over no proposal at all would be NaN.
        class_loss = cross_entropy(class_logits, classes, reduction="sum")
        count = normalizer(len(classes), scope=self.normalizer_scope, device=deltas.device)
        return {"loss_classifier": class_loss / count, "loss_box_reg": box_loss / count}

    def predict(
        self, pyramid: FeaturePyramid, proposals: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Return the detections of each image after class-wise non-maximum suppression."""
        class_logits, deltas = self(pyramid, proposals)
        counts = [len(p) for p in proposals]
        decoded = self.box_coder.decode_single(deltas.flatten(1), torch.cat(list(proposals))).unflatten(1, (-1, 4))
        probs = class_logits.softmax(dim=1)
        return [
            self._detect(p[:, 1:], b[:, 1:], size)
            for p, b, size in zip(probs.split(counts), decoded.split(counts), image_sizes, strict=True)
        ]

    def _detect(self, probs: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Detections:
        """Return the detections of one image from probs ``[R, num_things]`` and boxes ``[R, num_things, 4]``."""
        proposal, label = (probs > self.detection_thresh).nonzero(as_tuple=True)
        scores = probs[proposal, label]
        boxes = clip_boxes_to_image(boxes[proposal, label], image_size)
        keep = remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, label = boxes[keep], scores[keep], label[keep]
        keep = batched_nms(boxes, scores, label, self.nms_thresh)[: self.max_detections]
        return Detections(boxes[keep], scores[keep], label[keep])
