"""Mask R-CNN as the instance head of EfficientPS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efficientps.layers.norm_act import InPlaceABN, NormAct
from efficientps.networks.efficientps.instance_head import InstanceHead
from efficientps.networks.efficientps.mask_rcnn.box_branch import BoxBranch
from efficientps.networks.efficientps.mask_rcnn.mask_branch import MaskBranch
from efficientps.networks.efficientps.mask_rcnn.region_proposals import RegionProposalNetwork
from efficientps.networks.loss_normalizer import NormalizerScope
from efficientps.structures import FeaturePyramid, InstancePredictions, InstanceTargets


class MaskRCNNHead(InstanceHead):
    """Region proposals, boxes and masks in boxes, with separable convolutions and iABN (EfficientPS, Sec. 3.4).

    Args:
        num_things: number of thing classes.
        in_channels: of the pyramid.
        anchor_sizes: side in pixels of the anchors of each level.
        box_hidden: width of the box branch's fully connected layers.
        mask_channels: of the mask branch.
        fc_norm: see ``BoxBranch``, ``norm_act``.
        deconv_norm: see ``MaskBranch``.
        intermediate_norm: of the separable convolutions, see ``SeparableConv``.
        norm_act: builds the normalisation with its activation.
        rpn_proposals_train: candidates of each level before, and proposals of an image after suppression, in training.
        rpn_proposals_test: the same two numbers in prediction.
        box_samples_per_image: proposals that count in the losses of the box branch.
        detection_thresh: lowest score of a detection; low, for average precision.
        max_detections: of one image.
        score_thresh: lowest score in the panoptic fusion (0.5, DeepSceneSeg/EfficientPS:configs, ``test_cfg``).
        mask_logit_scale: 1 in the paper's formula, 4 in the authors' efficientPS.py.
        normalizer_scope: what the losses are divided by in many processes, see ``normalizer``.
    """

    def __init__(
        self,
        num_things: int,
        in_channels: int = 256,
        *,
        anchor_sizes: tuple[int, int, int, int] = (32, 64, 128, 256),
        box_hidden: int = 1024,
        mask_channels: int = 256,
        fc_norm: bool = False,
        deconv_norm: bool = False,
        intermediate_norm: bool = False,
        norm_act: NormAct = InPlaceABN,
        rpn_proposals_train: int = 2000,
        rpn_proposals_test: int = 1000,
        box_samples_per_image: int = 256,
        detection_thresh: float = 0.05,
        max_detections: int = 100,
        score_thresh: float = 0.5,
        mask_logit_scale: float = 1.0,
        normalizer_scope: NormalizerScope = "global",
    ) -> None:
        super().__init__()
        self.score_thresh = score_thresh
        self.mask_logit_scale = mask_logit_scale
        self.rpn = RegionProposalNetwork(
            in_channels=in_channels,
            anchor_sizes=anchor_sizes,
            pre_nms_train=rpn_proposals_train,
            post_nms_train=rpn_proposals_train,
            pre_nms_test=rpn_proposals_test,
            post_nms_test=rpn_proposals_test,
            normalizer_scope=normalizer_scope,
        )
        self.box_branch = BoxBranch(
            num_things,
            in_channels=in_channels,
            hidden=box_hidden,
            norm_act=norm_act if fc_norm else None,
            samples_per_image=box_samples_per_image,
            detection_thresh=detection_thresh,
            max_detections=max_detections,
            normalizer_scope=normalizer_scope,
        )
        self.mask_branch = MaskBranch(
            num_things,
            in_channels=in_channels,
            channels=mask_channels,
            deconv_norm=deconv_norm,
            intermediate_norm=intermediate_norm,
            norm_act=norm_act,
            normalizer_scope=normalizer_scope,
        )

    def loss(self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]) -> dict[str, Tensor]:
        """Return the five losses of Mask R-CNN, with unit weights."""
        proposals, losses = self.rpn.loss(pyramid, targets)
        sampled = self.box_branch.sample(proposals, targets)
        if pyramid.p4.is_cuda:  # on a CPU, bfloat16 gradients keep the last bits that they always had
            pyramid = _precise(pyramid)
        return {
            **losses,
            **self.box_branch.loss(pyramid, sampled, targets),
            **self.mask_branch.loss(pyramid, sampled, targets),
        }

    def predict(self, pyramid: FeaturePyramid, image_sizes: Sequence[tuple[int, int]]) -> list[InstancePredictions]:
        """Return the instances of each image by falling score; their masks fill their boxes with 28x28 logits."""
        return self.decode(pyramid, self.dense(pyramid), image_sizes)

    def dense(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return the candidates of the region proposal network: the part of ``predict`` whose shapes do not vary.

        They follow from those of the pyramid alone, and the host waits for nothing.
        """
        return self.rpn.dense(pyramid)

    def decode(
        self, pyramid: FeaturePyramid, dense: tuple[Tensor, ...], image_sizes: Sequence[tuple[int, int]]
    ) -> list[InstancePredictions]:
        """Return what ``predict`` returns, from the result of ``dense``."""
        proposals = self.rpn.decode(pyramid, dense, image_sizes)
        pyramid = _precise(pyramid)
        detections = self.box_branch.predict(pyramid, proposals, image_sizes)
        masks = self.mask_branch.predict(pyramid, [d.boxes for d in detections], [d.labels for d in detections])
        return [
            InstancePredictions(d.scores, d.labels, d.boxes, mask_logits=m, mask_frames=d.boxes)
            for d, m in zip(detections, masks, strict=True)
        ]


def _precise(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Return the pyramid in float32, converted once for the two branches that read boxes from it; float64 stays."""
    return FeaturePyramid(*(level.to(torch.promote_types(level.dtype, torch.float32)) for level in pyramid))
