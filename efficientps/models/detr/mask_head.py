"""The mask head of DETR: one mask per query, from attention maps and the backbone's levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate
from transformers.models.detr.modeling_detr import DetrFPNFusionStage, DetrMaskHeadSmallConv, DetrMHAttentionMap

from efficientps.models.detr.detector import Detection


class QueryConvolutions(DetrMaskHeadSmallConv):
    """The convolutions of the mask head, with what is the same for all queries of an image computed once for it.

    ``transformers`` copies the backbone's levels to every query and brings them to fewer channels afterwards; here, as
    in facebookresearch/detr:models/segmentation.py, they are brought there before. Likewise, the first convolution is
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
        channels = features.shape[1]
        weight, bias = self.conv1.conv.weight, self.conv1.conv.bias
        of_image = conv2d(features, weight[:, :channels], bias, padding=1)
        of_query = conv2d(attention_maps, weight[:, channels:], padding=1)
        x = self.conv1.activation(self.conv1.norm(of_image[images] + of_query))
        x = self.conv2(x)
        for stage, level in zip(self.fpn_stages, levels, strict=True):
            assert isinstance(stage, DetrFPNFusionStage)
            adapted = stage.fpn_adapter(level)
            x = stage.refine(adapted[images] + interpolate(x, size=adapted.shape[-2:], mode="nearest"))
        return cast(Tensor, self.output_conv(x))[:, 0]


class MaskHead(nn.Module):
    """Multi-head attention of a query over the image, refined by convolutions at strides 32 to 4 (arXiv 2005.12872).

    Args:
        channels: of the detector.
        num_heads: likewise.
        level_channels: of the backbone's levels of strides 4, 8 and 16.
    """

    def __init__(self, channels: int, num_heads: int, level_channels: Sequence[int]) -> None:
        super().__init__()
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
            detection: of the batch.
            levels: the backbone's levels of strides 4, 8 and 16.
            images: int64 ``[N]``, the image of each query.
            queries: int64 ``[N]``, its number in the image.

        Returns:
            ``[N, H/4, W/4]``, before the sigmoid.
        """
        padded = torch.zeros_like(detection.valid, dtype=detection.states.dtype)
        padded = padded.masked_fill(~detection.valid, torch.finfo(padded.dtype).min)[:, None, None]
        maps = self.attention(detection.states, detection.memory, padded)
        masks: Tensor = self.convolutions(detection.features, maps[images, queries], [*reversed(levels)], images)
        return masks
