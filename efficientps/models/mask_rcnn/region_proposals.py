"""The region proposal network: anchors on four levels, their objectness and their proposals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead, concat_box_prediction_layers
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from efficientps.models.mask_rcnn.roi_pooling import STRIDES
from efficientps.models.normalizer import NormalizerScope, normalizer
from efficientps.structures import FeaturePyramid, InstanceTargets


class RegionProposalNetwork(nn.Module):
    """Proposes boxes that may hold an object (Ren et al., "Faster R-CNN").

    The numbers are those of DeepSceneSeg/EfficientPS:configs. The 3x3 convolution is a standard one with ReLU: the
    paper's parameter count fits no other.

    Args:
        in_channels: of the pyramid.
        anchor_sizes: side in pixels of the anchors of each level, at ratios 0.5, 1 and 2.
        positive_iou: anchors with a larger overlap are positive, as is the best anchor of each object.
        negative_iou: anchors with a smaller overlap are negative.
        samples_per_image: anchors that count in the loss, half of them positive at most.
        pre_nms_train: candidates of each level in training.
        pre_nms_test: likewise in prediction.
        post_nms_train: proposals of an image in training.
        post_nms_test: likewise in prediction.
        nms_thresh: IoU above which the weaker of two candidates of a level goes.
        normalizer_scope: see ``normalizer``.
    """

    def __init__(
        self,
        *,
        in_channels: int = 256,
        anchor_sizes: Sequence[int] = (32, 64, 128, 256),
        positive_iou: float = 0.7,
        negative_iou: float = 0.3,
        samples_per_image: int = 256,
        pre_nms_train: int = 2000,
        pre_nms_test: int = 1000,
        post_nms_train: int = 2000,
        post_nms_test: int = 1000,
        nms_thresh: float = 0.7,
        normalizer_scope: NormalizerScope = "global",
    ) -> None:
        super().__init__()
        self.anchors = AnchorGenerator(tuple((size,) for size in anchor_sizes), ((0.5, 1.0, 2.0),) * len(anchor_sizes))
        self.head = RPNHead(in_channels, self.anchors.num_anchors_per_location()[0])
        self.box_coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(positive_iou, negative_iou, allow_low_quality_matches=True)
        self.sampler = BalancedPositiveNegativeSampler(samples_per_image, 0.5)
        self.pre_nms_train, self.pre_nms_test = pre_nms_train, pre_nms_test
        self.post_nms_train, self.post_nms_test = post_nms_train, post_nms_test
        self.nms_thresh = nms_thresh
        self.normalizer_scope: NormalizerScope = normalizer_scope

    def loss(
        self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposals of each image, float32 ``[R_i, 4]`` without gradient, and the two loss terms."""
        objectness, deltas, anchors, per_level = self._score(pyramid)
        canvas = (pyramid.p4.shape[-2] * STRIDES[0], pyramid.p4.shape[-1] * STRIDES[0])
        proposals = self._propose(
            objectness, deltas, anchors, per_level, [canvas] * len(targets), self.pre_nms_train, self.post_nms_train
        )
        labels, box_targets = [], []
        for target in targets:
            matched = self._match(anchors, target["boxes"])
            labels.append(
                torch.where(matched >= 0, 1.0, torch.where(matched == Matcher.BELOW_LOW_THRESHOLD, 0.0, -1.0))
            )
            boxes = target["boxes"][matched.clamp(min=0)] if len(target["boxes"]) else anchors
            box_targets.append(self.box_coder.encode_single(boxes, anchors))
        positives, negatives = (torch.cat(masks).bool() for masks in self.sampler(labels))
        sampled = positives | negatives
        all_deltas = deltas.reshape(-1, 4)
        objectness_loss = binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled], reduction="sum"
        )
        box_loss = smooth_l1_loss(all_deltas[positives], torch.cat(box_targets)[positives], beta=1 / 9, reduction="sum")
        count = normalizer(sampled.sum(), scope=self.normalizer_scope, device=deltas.device)
        return proposals, {"loss_objectness": objectness_loss / count, "loss_rpn_box_reg": box_loss / count}

    def predict(self, pyramid: FeaturePyramid, image_sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the proposals of each image, float32 ``[R_i, 4]``, clipped to its valid size."""
        objectness, deltas, anchors, per_level = self._score(pyramid)
        return self._propose(objectness, deltas, anchors, per_level, image_sizes, self.pre_nms_test, self.post_nms_test)

    def _score(self, pyramid: FeaturePyramid) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """Return objectness logits ``[B, A]``, deltas ``[B, A, 4]``, anchors ``[A, 4]`` and A of each level."""
        objectness, deltas = self.head(list(pyramid))
        per_level = [o[0].numel() for o in objectness]
        batch = len(objectness[0])
        flat_objectness, flat_deltas = concat_box_prediction_layers(objectness, deltas)
        reference = pyramid.p4
        self.anchors.set_cell_anchors(torch.float32, reference.device)
        strides = [[torch.tensor(s, device=reference.device)] * 2 for s in STRIDES]
        anchors = torch.cat(self.anchors.grid_anchors([list(f.shape[-2:]) for f in pyramid], strides))
        return (
            flat_objectness.float().reshape(batch, -1),
            flat_deltas.float().reshape(batch, -1, 4),
            anchors,
            per_level,
        )

    def _match(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Return for each anchor the index of its object, -1 for background, -2 for neither; int64 ``[A]``."""
        if len(boxes) == 0:
            return torch.full((len(anchors),), Matcher.BELOW_LOW_THRESHOLD, device=anchors.device)
        matched: Tensor = self.matcher(box_iou(boxes, anchors))
        return matched

    @torch.no_grad()
    def _propose(
        self,
        objectness: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        per_level: Sequence[int],
        image_sizes: Sequence[tuple[int, int]],
        pre_nms: int,
        post_nms: int,
    ) -> list[Tensor]:
        starts = [sum(per_level[:level]) for level in range(len(per_level))]
        proposals = []
        for scores, image_deltas, size in zip(objectness, deltas, image_sizes, strict=True):
            best = torch.cat(
                [
                    start + scores[start : start + count].topk(min(pre_nms, count)).indices
                    for start, count in zip(starts, per_level, strict=True)
                ]
            )
            level = torch.bucketize(best, torch.tensor(starts[1:], device=best.device), right=True)
            boxes = self.box_coder.decode_single(image_deltas[best], anchors[best])
            boxes = clip_boxes_to_image(boxes, size)
            keep = remove_small_boxes(boxes, min_size=1e-3)
            boxes, level, candidate_scores = boxes[keep], level[keep], scores[best[keep]]
            keep = batched_nms(boxes, candidate_scores, level, self.nms_thresh)[:post_nms]
            proposals.append(boxes[keep])
        return proposals
