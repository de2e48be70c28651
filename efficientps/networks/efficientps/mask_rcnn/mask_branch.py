"""The mask branch: a 28x28 mask for each detected box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import roi_align

from efficientps.layers.conv import SeparableConv, xavier_init
from efficientps.layers.norm_act import InPlaceABN, NormAct
from efficientps.networks.counts import check_counts
from efficientps.networks.efficientps.mask_rcnn.box_branch import SampledProposals
from efficientps.networks.efficientps.mask_rcnn.box_convention import ConventionName, convention_of
from efficientps.networks.efficientps.mask_rcnn.hard_mask_targets import hard_mask_targets
from efficientps.networks.efficientps.mask_rcnn.pyramid_roi_align import pyramid_roi_align
from efficientps.networks.loss_normalizer import NormalizerScope, normalizer
from efficientps.networks.losses import weighted
from efficientps.structures import FeaturePyramid, InstanceTargets

_MASKS_AT_A_TIME = 8


class MaskBranch(nn.Module):
    """Four separable convolutions over 14x14 features, a transposed one to 28x28, one mask for each class.

    Channel 0 belongs to the background and is never used, as in the authors' code; class c of the box branch has
    channel c.

    Args:
        num_things: number of thing classes.
        in_channels: channels of the pyramid.
        channels: channels of the convolutions.
        num_convs: number of separable convolutions (4).
        deconv_norm: normalise and activate after the transposed convolution, as Fig. 2 draws; False is a ReLU, as in
            the authors' code and the paper's parameter count.
        intermediate_norm: whether the separable convolutions have a second norm, between their two convolutions.
        norm_act: builds the normalisation with its activation.
        output_size: bins of RoIAlign along each side (14); masks are twice as large.
        sampling_ratio: samples of RoIAlign along each side of a bin.
        aligned: whether RoIAlign has the centres of pixels at half-integers; False shifts by half a pixel, as the heads
            of torchvision do.
        finest_scale: boxes of less than twice this side, in pixels, are read from the finest level, and each doubling
            leads to the next coarser one (56, DeepSceneSeg/EfficientPS:configs).
        mask_weight: weight of the loss of the masks (1, EfficientPS, Sec. 3.4).
        box_convention: where samples of RoIAlign lie, the targets of the masks, and the initial weights
            (``BoxConvention``).
        normalizer_scope: the losses are divided by the number of samples of all processes (``global``) or of each
            process (``device``).

    Raises:
        ValueError: a count is below 1.
    """

    def __init__(
        self,
        num_things: int,
        in_channels: int = 256,
        *,
        channels: int = 256,
        num_convs: int = 4,
        deconv_norm: bool = False,
        intermediate_norm: bool = False,
        norm_act: NormAct = InPlaceABN,
        output_size: int = 14,
        sampling_ratio: int = 2,
        aligned: bool = True,
        finest_scale: float = 56.0,
        mask_weight: float = 1.0,
        box_convention: ConventionName = "torchvision",
        normalizer_scope: NormalizerScope = "global",
    ) -> None:
        super().__init__()
        check_counts(
            "mask branch",
            {
                "channels": channels,
                "num_convs": num_convs,
                "output_size": output_size,
                "sampling_ratio": sampling_ratio,
            },
        )
        self.convs = nn.Sequential(*(
            SeparableConv(
                in_channels if i == 0 else channels, channels, intermediate_norm=intermediate_norm, norm_act=norm_act
            )
            for i in range(num_convs)
        ))  # fmt: skip
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.deconv_act = norm_act(channels) if deconv_norm else nn.ReLU(inplace=True)
        self.predictor = nn.Conv2d(channels, num_things + 1, 1)
        self.output_size = output_size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned
        self.finest_scale = finest_scale
        self.mask_weight = mask_weight
        self.normalizer_scope: NormalizerScope = normalizer_scope
        xavier_init(self)
        self.convention = convention_of(box_convention)
        if self.convention.small_initial_weights:
            for layer in (self.deconv, self.predictor):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pyramid: FeaturePyramid, boxes: Sequence[Tensor]) -> Tensor:
        """Return mask logits of every class, float32 ``[R, 1 + num_things, 28, 28]``, R over all images."""
        x = pyramid_roi_align(
            pyramid,
            boxes,
            output_size=self.output_size,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            finest_scale=self.finest_scale,
            shift=self.convention.roi_shift,
        )
        logits: Tensor = self.predictor(self.deconv_act(self.deconv(self.convs(x))))
        return logits.float()

    def loss(
        self, pyramid: FeaturePyramid, sampled: SampledProposals, targets: Sequence[InstanceTargets]
    ) -> dict[str, Tensor]:
        """Return ``loss_mask``, the binary cross entropy of the matched class's mask over the positive proposals."""
        boxes, owners, classes = (field.index_select(0, sampled.positives) for field in sampled[:3])
        boxes_of, owners_of = (torch.split(field, sampled.positive_counts) for field in (boxes, owners))
        logits = self(pyramid, boxes_of)
        by_image, first = [], 0
        for image_boxes, image_owners, target in zip(boxes_of, owners_of, targets, strict=True):
            matched = image_owners - first
            if self.convention.hard_mask_targets:
                part = hard_mask_targets(target["masks"], image_boxes, matched, size=logits.shape[-1])
            else:
                part = mask_targets(target["masks"], image_boxes, matched, size=logits.shape[-1], aligned=self.aligned)
            by_image.append(part)
            first += len(target["masks"])
        wanted = torch.cat(by_image)
        chosen = logits[torch.arange(len(logits), device=logits.device), classes]
        loss = binary_cross_entropy_with_logits(chosen, wanted, reduction="sum")
        loss = loss / normalizer(wanted.numel(), scope=self.normalizer_scope, device=logits.device)
        return {"loss_mask": weighted(self.mask_weight, loss)}

    def predict(self, pyramid: FeaturePyramid, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> list[Tensor]:
        """Return the mask logits of each image's detections for their class, float32 ``[N_i, 28, 28]``."""
        logits = self(pyramid, boxes)
        classes = torch.cat(list(labels)) + 1
        chosen = logits[torch.arange(len(logits), device=logits.device), classes]
        return list(chosen.split([len(b) for b in boxes]))


def mask_targets(masks: Tensor, boxes: Tensor, matched: Tensor, *, size: int, aligned: bool) -> Tensor:
    """Return each box's part of its object's mask, area-averaged to ``[P, size, size]`` in [0, 1], float32.

    Args:
        masks: bool ``[N, H, W]``.
        boxes: float32 ``[P, 4]``, xyxy in pixels.
        matched: int64 ``[P]``, index of each box's object.
        size: side of the result.
        aligned: whether the centres of pixels are at half-integers.
    """
    result = boxes.new_zeros((len(boxes), size, size))
    chunk = matched // _MASKS_AT_A_TIME
    rois = torch.cat([(matched % _MASKS_AT_A_TIME).to(boxes.dtype)[:, None], boxes], dim=1)
    # A few masks at a time: at 1024x2048 every float mask weighs 8 MB.
    for index, part in enumerate(torch.split(masks, _MASKS_AT_A_TIME)):
        inside = chunk == index
        # The boxes of other masks shrink to a point, which takes no time; choosing them would need their number.
        pooled = roi_align(part[:, None].to(boxes.dtype), rois * inside[:, None], size, 1.0, -1, aligned)[:, 0]
        result = torch.where(inside[:, None, None], pooled, result)
    return result
