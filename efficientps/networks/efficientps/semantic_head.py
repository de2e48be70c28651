"""The semantic head: large scale feature extraction, dense prediction cells and mismatch correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from efficientps.layers.conv import ConvNormAct, SeparableConv, xavier_init
from efficientps.layers.norm_act import InPlaceABN, NormAct
from efficientps.networks.counts import check_counts
from efficientps.networks.losses import hard_pixel_cross_entropy, weighted
from efficientps.structures import FeaturePyramid


class LSFE(nn.Sequential):
    """Large Scale Feature Extractor: two 3x3 separable convolutions that gather fine features efficiently."""

    def __init__(self, in_channels: int, out_channels: int, *, intermediate_norm: bool, norm_act: NormAct) -> None:
        super().__init__(
            SeparableConv(in_channels, out_channels, intermediate_norm=intermediate_norm, norm_act=norm_act),
            SeparableConv(out_channels, out_channels, intermediate_norm=intermediate_norm, norm_act=norm_act),
        )


Dilation: TypeAlias = tuple[int, int]
"""Dilation of a 3x3 convolution, (rows, columns)."""

DPC_DILATIONS: tuple[Dilation, Dilation, Dilation, Dilation, Dilation] = ((1, 6), (1, 1), (6, 21), (18, 15), (6, 3))
"""The published dilations (EfficientPS, Fig. 2), in the order of ``DPC``."""


class DPC(nn.Module):
    """Dense Prediction Cells: five dilated 3x3 separable convolutions that see far, joined by a 1x1 convolution.

    The first convolution feeds three others; the fifth follows the last of these (EfficientPS, Fig. 2; Chen et al.,
    "Searching for Efficient Multi-Scale Architectures for Dense Image Prediction", 2018). Padding equals dilation, so
    that the size is kept however small the map is.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        dilations: dilations of the five convolutions: the first, the three that follow it, and the one after the last
            of these.
        intermediate_norm: whether the separable convolutions have a second norm, between their two convolutions.
        norm_act: builds the normalisation with its activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilations: Sequence[Dilation] = DPC_DILATIONS,
        intermediate_norm: bool,
        norm_act: NormAct,
    ) -> None:
        super().__init__()

        def branch(dilation: Dilation) -> SeparableConv:
            return SeparableConv(
                in_channels,
                in_channels,
                dilation=dilation,
                intermediate_norm=intermediate_norm,
                norm_act=norm_act,
            )

        self.first, self.near, self.wide, self.far, self.after_far = map(branch, dilations)
        self.project = ConvNormAct(5 * in_channels, out_channels, norm_act=norm_act)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, H, W]`` to ``[B, out_channels, H, W]``."""
        first = self.first(x)
        far = self.far(first)
        branches = [first, self.near(first), self.wide(first), far, self.after_far(far)]
        projected: Tensor = self.project(torch.cat(branches, dim=1))
        return projected


class MC(nn.Sequential):
    """Mismatch Correction between levels: two 3x3 separable convolutions, then bilinear upsampling by 2."""

    def __init__(self, channels: int, *, intermediate_norm: bool, norm_act: NormAct) -> None:
        super().__init__(
            SeparableConv(channels, channels, intermediate_norm=intermediate_norm, norm_act=norm_act),
            SeparableConv(channels, channels, intermediate_norm=intermediate_norm, norm_act=norm_act),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        )


class SemanticHead(nn.Module):
    """Semantic segmentation from the pyramid (EfficientPS, Sec. 3.3, Fig. 2).

    Args:
        num_classes: stuff and thing classes, C.
        in_channels: channels of the pyramid.
        channels: channels inside the head (128 in Fig. 2 and the authors' code).
        dpc_dilations: dilations (rows, columns) of the five convolutions of each DPC: the first one, the three that
            follow it, and the one after the last of these.
        hard_pixel_fraction: share of the pixels, those with the highest losses, that the loss counts (0.25).
        hard_pixel_scope: whether ``hard_pixel_fraction`` is a share of each ``image`` (the paper) or of the whole
            ``batch`` (the authors' code).
        semantic_weight: weight of the loss (1, EfficientPS, Sec. 3.4).
        intermediate_norm: whether the separable convolutions have a second norm, between their two convolutions.
        norm_act: builds the normalisation with its activation.

    Raises:
        ValueError: ``hard_pixel_fraction`` is not in (0, 1], there are no channels, or there are not five dilations.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        *,
        channels: int = 128,
        dpc_dilations: tuple[Dilation, Dilation, Dilation, Dilation, Dilation] = DPC_DILATIONS,
        hard_pixel_fraction: float = 0.25,
        hard_pixel_scope: Literal["image", "batch"] = "image",
        semantic_weight: float = 1.0,
        intermediate_norm: bool = False,
        norm_act: NormAct = InPlaceABN,
    ) -> None:
        super().__init__()
        check_counts("semantic head", {"num_classes": num_classes, "channels": channels})
        if not 0 < hard_pixel_fraction <= 1:
            raise ValueError(f"hard_pixel_fraction is {hard_pixel_fraction}; it is a share of the pixels, in (0, 1].")
        check_counts("semantic head", {"the smallest number in dpc_dilations": min(map(min, dpc_dilations))})
        if len(dpc_dilations) != 5:
            raise ValueError(f"dpc_dilations has {len(dpc_dilations)} entries; it has one for each of 5 convolutions.")
        self.hard_pixel_fraction = hard_pixel_fraction
        self.semantic_weight = semantic_weight
        self.hard_pixel_scope: Literal["image", "batch"] = hard_pixel_scope

        def dpc() -> DPC:
            return DPC(
                in_channels,
                channels,
                dilations=dpc_dilations,
                intermediate_norm=intermediate_norm,
                norm_act=norm_act,
            )

        self.dpc32 = dpc()
        self.dpc16 = dpc()
        self.lsfe8 = LSFE(in_channels, channels, intermediate_norm=intermediate_norm, norm_act=norm_act)
        self.lsfe4 = LSFE(in_channels, channels, intermediate_norm=intermediate_norm, norm_act=norm_act)
        self.mc16_to_8 = MC(channels, intermediate_norm=intermediate_norm, norm_act=norm_act)
        self.mc8_to_4 = MC(channels, intermediate_norm=intermediate_norm, norm_act=norm_act)
        self.classifier = nn.Conv2d(4 * channels, num_classes, 1)
        xavier_init(self)
        nn.init.kaiming_normal_(self.classifier.weight)

    def forward(self, pyramid: FeaturePyramid) -> Tensor:
        """Return logits, float ``[B, C, H/4, W/4]``, before the softmax."""
        s32 = self.dpc32(pyramid.p32)
        s16 = self.dpc16(pyramid.p16)
        s8 = self.lsfe8(pyramid.p8) + self.mc16_to_8(s16 + _resize(s32, s16.shape[-2:]))
        s4 = self.lsfe4(pyramid.p4) + self.mc8_to_4(s8)
        # s16 enters here without s32 (the dashed bypass of Fig. 2). A 1x1 convolution and bilinear upsampling commute
        # (the weights of each interpolated value sum to 1), so that each level is classified at its own size.
        size = s4.shape[-2:]
        weights = self.classifier.weight.chunk(4, dim=1)
        logits = nn.functional.conv2d(s4, weights[0], self.classifier.bias)
        for level, weight in zip((s8, s16, s32), weights[1:], strict=True):
            logits = logits + _resize(nn.functional.conv2d(level, weight), size)
        return logits

    def upsample(self, logits: Tensor) -> Tensor:
        """Return the logits ``[B, C, H/4, W/4]`` at the size of the canvas, ``[B, C, H, W]``."""
        return interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)

    def loss(self, pyramid: FeaturePyramid, target: Tensor) -> dict[str, Tensor]:
        """Return ``loss_semantic`` against train ids, int64 ``[B, H, W]`` with ``IGNORE_INDEX``, at full resolution."""
        logits = self.upsample(self(pyramid).float())
        loss = hard_pixel_cross_entropy(logits, target, fraction=self.hard_pixel_fraction, scope=self.hard_pixel_scope)
        return {"loss_semantic": weighted(self.semantic_weight, loss)}


def _resize(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    return interpolate(x, size=size, mode="bilinear", align_corners=False)
