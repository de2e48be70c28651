"""The mask head of DETR: one mask per query, from attention maps and the backbone's levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from efficientps.networks.detr.detector import Detection

_GROUPS = 8
"""Number of groups of each group norm in the mask head."""


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
        # Imported where a mask head is built, as in the detector.
        from transformers.models.detr.modeling_detr import DetrMHAttentionMap

        from efficientps.networks.detr.query_convolutions import QueryConvolutions

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
