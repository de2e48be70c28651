"""The convolutions of DETR's mask head, which draw the masks of queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate
from transformers.models.detr.modeling_detr import DetrFPNFusionStage, DetrMaskHeadSmallConv


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
