"""Mask R-CNN as the instance head of EfficientPS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from efficientps.layers.norm_act import InPlaceABN, NormAct
from efficientps.networks.efficientps.branches import PassedOn, build_branch
from efficientps.networks.efficientps.instance_head import InstanceHead
from efficientps.networks.efficientps.mask_rcnn.box_branch import BoxBranch
from efficientps.networks.efficientps.mask_rcnn.box_convention import ConventionName, convention_of
from efficientps.networks.efficientps.mask_rcnn.mask_branch import MaskBranch
from efficientps.networks.efficientps.mask_rcnn.region_proposals import RegionProposalNetwork
from efficientps.networks.loss_normalizer import NormalizerScope
from efficientps.structures import FeaturePyramid, InstancePredictions, InstanceTargets


class MaskRCNNHead(InstanceHead):
    """Region proposals, boxes and masks in boxes, with separable convolutions and iABN (EfficientPS, Sec. 3.4).

    Every number of a part is an option of that part: ``rpn``, ``box_branch`` and ``mask_branch``. The options from
    ``anchor_sizes`` on are short for some of these; None leaves the value to the part. A number that is given in both
    places is refused where the two differ, unless the part's value is its default: then the number given here holds. (A
    configuration gives a part all of its options; a default that is written out cannot be told from one that is not.)

    Args:
        num_things: number of thing classes.
        in_channels: channels of the pyramid.
        rpn: builds the region proposal network for a number of pyramid channels.
        box_branch: builds the box branch for a number of thing classes and of pyramid channels.
        mask_branch: builds the mask branch for a number of thing classes and of pyramid channels.
        score_thresh: lowest score of an instance in the panoptic fusion (0.5, DeepSceneSeg/EfficientPS:configs,
            ``test_cfg``).
        mask_logit_scale: factor of the mask logits in the fusion: 1 in the paper's formula, 4 in the authors'
            efficientPS.py.
        anchor_sizes: ``rpn.anchor_sizes``.
        box_hidden: ``box_branch.hidden``.
        mask_channels: ``mask_branch.channels``.
        fc_norm: whether ``norm_act`` follows the box branch's fully connected layers (``box_branch.norm_act``).
        deconv_norm: ``mask_branch.deconv_norm``.
        intermediate_norm: ``mask_branch.intermediate_norm``.
        norm_act: ``mask_branch.norm_act``, and ``box_branch.norm_act`` if ``fc_norm`` is true; by default in-place ABN.
        rpn_proposals_train: both ``rpn.pre_nms_train`` and ``rpn.post_nms_train``.
        rpn_proposals_test: both ``rpn.pre_nms_test`` and ``rpn.post_nms_test``.
        box_samples_per_image: ``box_branch.samples_per_image``.
        detection_thresh: ``box_branch.detection_thresh``.
        max_detections: ``box_branch.max_detections``.
        box_convention: ``box_convention`` of all three parts, and of the grids of masks and the fusion: where anchors,
            samples, clipped boxes and mask grids lie, and which boxes belong to an object (``BoxConvention``).
            ``mmdetection_1`` is that of the authors' code.
        normalizer_scope: ``normalizer_scope`` of all three parts.

    Raises:
        ValueError: an option of this list and the part's own option are both given, and differ; or a part refuses one.
    """

    def __init__(
        self,
        num_things: int,
        in_channels: int = 256,
        *,
        rpn: Callable[[int], RegionProposalNetwork] = RegionProposalNetwork,
        box_branch: Callable[[int, int], BoxBranch] = BoxBranch,
        mask_branch: Callable[[int, int], MaskBranch] = MaskBranch,
        score_thresh: float = 0.5,
        mask_logit_scale: float = 1.0,
        anchor_sizes: tuple[int, int, int, int] | None = None,
        box_hidden: int | None = None,
        mask_channels: int | None = None,
        fc_norm: bool | None = None,
        deconv_norm: bool | None = None,
        intermediate_norm: bool | None = None,
        norm_act: NormAct | None = None,
        rpn_proposals_train: int | None = None,
        rpn_proposals_test: int | None = None,
        box_samples_per_image: int | None = None,
        detection_thresh: float | None = None,
        max_detections: int | None = None,
        box_convention: ConventionName | None = None,
        normalizer_scope: NormalizerScope | None = None,
    ) -> None:
        super().__init__()
        self.score_thresh = score_thresh
        self.mask_logit_scale = mask_logit_scale
        self.convention = convention_of(box_convention or "torchvision")
        self.competes_everywhere = self.convention.competes_everywhere
        shared = [
            PassedOn("normalizer_scope", "normalizer_scope", normalizer_scope),
            PassedOn("box_convention", "box_convention", box_convention),
        ]
        proposals = [
            PassedOn(f"rpn_proposals_{mode}", f"{stage}_{mode}", number)
            for mode, number in (("train", rpn_proposals_train), ("test", rpn_proposals_test))
            for stage in ("pre_nms", "post_nms")
        ]
        self.rpn = build_branch(
            "rpn",
            rpn,
            in_channels,
            options=[PassedOn("anchor_sizes", "anchor_sizes", anchor_sizes), *proposals, *shared],
        )
        self.box_branch = build_branch(
            "box_branch",
            box_branch,
            num_things,
            in_channels,
            options=[
                PassedOn("box_hidden", "hidden", box_hidden),
                PassedOn("fc_norm", "norm_act", (norm_act or InPlaceABN) if fc_norm else None),
                PassedOn("box_samples_per_image", "samples_per_image", box_samples_per_image),
                PassedOn("detection_thresh", "detection_thresh", detection_thresh),
                PassedOn("max_detections", "max_detections", max_detections),
                *shared,
            ],
        )
        self.mask_branch = build_branch(
            "mask_branch",
            mask_branch,
            num_things,
            in_channels,
            options=[
                PassedOn("mask_channels", "channels", mask_channels),
                PassedOn("deconv_norm", "deconv_norm", deconv_norm),
                PassedOn("intermediate_norm", "intermediate_norm", intermediate_norm),
                PassedOn("norm_act", "norm_act", norm_act),
                *shared,
            ],
        )

    def loss(self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]) -> dict[str, Tensor]:
        """Return the five losses of Mask R-CNN, with the weights of their parts."""
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
            InstancePredictions(d.scores, d.labels, d.boxes, *self.convention.mask_grids(d.boxes, m))
            for d, m in zip(detections, masks, strict=True)
        ]


def _precise(pyramid: FeaturePyramid) -> FeaturePyramid:
    """Return the pyramid in float32, converted once for the two branches that read boxes from it; float64 stays."""
    return FeaturePyramid(*(level.to(torch.promote_types(level.dtype, torch.float32)) for level in pyramid))
