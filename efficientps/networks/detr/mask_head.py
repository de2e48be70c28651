"""The mask head of DETR: one mask per query, from attention maps and the backbone's levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate
from transformers.models.detr.modeling_detr import DetrFPNFusionStage, DetrMaskHeadSmallConv, DetrMHAttentionMap

from efficientps.networks.detr.detector import Detection

_GROUPS = 8
"""Number of groups of each group norm in the mask head."""


class QueryConvolutions(DetrMaskHeadSmallConv):
    """The convolutions of the mask head; the parts that no query changes are computed once for each image.

    ``transformers`` copies the backbone's levels to every query and brings them to fewer channels afterwards; here, as
    in facebookresearch/detr:models/segmentation.py, they are brought there before. Besides, the first convolution is
    a sum of one over an image's features and one over a query's attention maps, and the former needs no query. Same
    parameters, same result, a fraction of the memory.
    """

    def forward(  # type: ignore[override] # of chosen queries, where the parent takes all of them
        self, features: Tensor, attention_maps: Tensor, levels: Sequence[Tensor], images: Tensor
    ) -> Tensor:
        """Return mask logits.

        Args:
            features: ``[B, C, h, w]``.
            attention_maps: ``[N, heads, h, w]``, of N queries of any images.
            levels: three of the backbone's, coarsest first, each ``[B, C', h', w']``.
            images: int64 ``[N]``, the image of each query.

        Returns:
            ``[N, h', w']`` at the size of the finest level.
        """
        return self.of_queries(attention_maps, *self.of_images(features, levels), images)

    def of_images(self, features: Tensor, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the images' part of the first convolution, and the levels with the channels of their stages."""
        weight, bias = self.conv1.conv.weight, self.conv1.conv.bias
        adapted = [_stage(stage).fpn_adapter(level) for stage, level in zip(self.fpn_stages, levels, strict=True)]
        return conv2d(features, weight[:, : features.shape[1]], bias, padding=1), adapted

    def of_queries(
        self, attention_maps: Tensor, of_image: Tensor, adapted: Sequence[Tensor], images: Tensor | slice
    ) -> Tensor:
        """Return the mask logits of queries from what their images have: ``of_images``, taken at ``images``."""
        weight = self.conv1.conv.weight
        of_query = conv2d(attention_maps, weight[:, of_image.shape[1] - attention_maps.shape[1] :], padding=1)
        x = self.conv1.activation(self.conv1.norm(of_image[images] + of_query))
        x = self.conv2(x)
        for stage, level in zip(self.fpn_stages, adapted, strict=True):
            x = _stage(stage).refine(level[images] + interpolate(x, size=level.shape[-2:], mode="nearest"))
        return cast(Tensor, self.output_conv(x))[:, 0]


def _stage(module: nn.Module) -> DetrFPNFusionStage:
    assert isinstance(module, DetrFPNFusionStage)
    return module


class MaskFeatures(NamedTuple):
    """The tensors that the masks of all queries of a batch are computed from."""

    attention_maps: Tensor  # [B, Q, heads, h, w]
    of_image: Tensor  # [B, channels + heads, h, w]
    adapted: list[Tensor]  # of the backbone's levels of strides 16, 8 and 4, with channels / 2, / 4 and / 8


def _check_groups(channels: int, num_heads: int) -> None:
    """Refuse widths that the group norms of the mask head cannot split into their 8 groups, or into single channels."""
    if (channels + num_heads) % _GROUPS:
        raise ValueError(
            f"channels of the detector is {channels} and num_heads {num_heads}; with a mask head, their sum must be a "
            f"multiple of {_GROUPS}."
        )
    widths = [channels // part for part in (2, 4, 8, 16)]
    if any(width % min(_GROUPS, width) for width in widths):
        raise ValueError(
            f"channels of the detector is {channels}; the mask head has layers of {', '.join(map(str, widths))} "
            f"channels, and each must be a multiple of {_GROUPS} or less than it: take a multiple of 128, or 16, 32 or "
            "64."
        )


class MaskHead(nn.Module):
    """Multi-head attention of a query over the image, refined by convolutions at strides 32 to 4 (arXiv 2005.12872).

    Args:
        channels: width of the detector.
        num_heads: attention heads of the detector.
        level_channels: channels of the backbone's levels of strides 4, 8 and 16.

    Raises:
        ValueError: the group norms of the mask head, of 8 groups each, cannot split their channels.
    """

    def __init__(self, channels: int, num_heads: int, level_channels: Sequence[int]) -> None:
        super().__init__()
        _check_groups(channels, num_heads)
        self.attention = DetrMHAttentionMap(channels, num_heads)
        self.convolutions = QueryConvolutions(channels + num_heads, [*reversed(level_channels)], channels)
        for linear in (self.attention.q_proj, self.attention.k_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for module in self.convolutions.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, detection: Detection, levels: Sequence[Tensor], images: Tensor, queries: Tensor) -> Tensor:
        """Return the mask logits of N chosen queries, each as it would be among all others.

        Args:
            detection: output of the detector for the batch.
            levels: the backbone's levels of strides 4, 8 and 16.
            images: int64 ``[N]``, the image of each query.
            queries: int64 ``[N]``, its number in the image.

        Returns:
            ``[N, H/4, W/4]``, before the sigmoid.
        """
        features = self.features(detection, levels)
        return self.convolutions.of_queries(features.attention_maps[images, queries], *features[1:], images)

    def features(self, detection: Detection, levels: Sequence[Tensor]) -> MaskFeatures:
        """Return the tensors that do not depend on the choice of queries."""
        padded = detection.states.new_zeros(1)  # added all the same: under autocast it makes the attention float32
        if detection.valid is not None:
            padded = torch.zeros_like(detection.valid, dtype=detection.states.dtype)
            padded = padded.masked_fill(~detection.valid, torch.finfo(padded.dtype).min)[:, None, None]
        maps = self.attention(detection.states, detection.memory, padded)
        return MaskFeatures(maps, *self.convolutions.of_images(detection.features, [*reversed(levels)]))

    def masks(self, features: MaskFeatures, image: int, queries: Tensor) -> Tensor:
        """Return the mask logits ``[N, H/4, W/4]`` of N queries of one image, int64 ``[N]``."""
        maps = features.attention_maps[image][queries]
        # A slice and not a list of indices: the image's tensors are broadcast to its queries without copies.
        return self.convolutions.of_queries(maps, features.of_image, features.adapted, slice(image, image + 1))
