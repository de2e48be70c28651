"""The mask features of SOLOv2: one map at stride 4 from which each object's kernel draws its mask."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate

from efficientps.layers.conv import ConvNormAct
from efficientps.layers.norm_act import GroupNormReLU, NormAct
from efficientps.networks.counts import check_counts
from efficientps.networks.efficientps.solov2.coordinates import (
    append_maps,
    coordinates,
    fourier_features,
    is_channels_last,
)
from efficientps.networks.efficientps.solov2.tensor_cache import TensorCache
from efficientps.structures import FeaturePyramid


class MaskFeatureBranch(nn.Module):
    """Brings all four levels to stride 4 by 3x3 convolutions, each followed by an upsampling, and adds them up.

    SOLOv2 (Wang et al., NeurIPS 2020, Sec. 3.3): as in the semantic branch of Panoptic FPN, with coordinates at the
    coarsest level alone. WXinlong/SOLO:mmdet/models/mask_heads/mask_feat_head.py.

    Args:
        in_channels: channels of the pyramid.
        out_channels: E, channels of the result (256, light 128).
        hidden: channels of the convolutions (128).
        fourier_octaves: number of frequencies of the sine and cosine waves over rows and columns that the last
            convolution sees beside the sum; 0 as published.
        norm_act: builds the normalisation with its activation.

    Raises:
        ValueError: there are no channels, or they do not fit the normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 128,
        fourier_octaves: int = 0,
        norm_act: NormAct = GroupNormReLU,
    ) -> None:
        super().__init__()
        check_counts("mask features", {"hidden": hidden, "out_channels": out_channels})
        check_counts("mask features", {"fourier_octaves": fourier_octaves}, least=0)
        self.fourier_octaves = fourier_octaves
        self.maps = TensorCache()

        def convs(first: int, number: int) -> nn.ModuleList:
            channels = [first] + [hidden] * number
            return nn.ModuleList(
                ConvNormAct(c_in, c_out, kernel_size=3, norm_act=norm_act) for c_in, c_out in pairwise(channels)
            )

        self.p4 = convs(in_channels, 1)
        self.p8 = convs(in_channels, 1)
        self.p16 = convs(in_channels, 2)
        self.p32 = convs(in_channels + 2, 3)
        self.project = ConvNormAct(hidden + 4 * fourier_octaves, out_channels, norm_act=norm_act)

    def forward(self, pyramid: FeaturePyramid) -> Tensor:
        """Return ``[B, E, H/4, W/4]``."""
        x = self.p4[0](pyramid.p4)
        for convs, features in (
            (self.p8, pyramid.p8),
            (self.p16, pyramid.p16),
            (self.p32, self._with_maps(pyramid.p32, coordinates)),
        ):
            for conv in convs:
                features = interpolate(conv(features), scale_factor=2, mode="bilinear")
            x = x + features  # not in place: the sum's first term is kept for the backward pass of its activation
        if self.fourier_octaves:
            x = self._with_maps(x, fourier_features, self.fourier_octaves)
        mask_features: Tensor = self.project(x)
        return mask_features

    def _with_maps(self, x: Tensor, maps: Callable[..., Tensor], *options: int) -> Tensor:
        return append_maps(
            x, self.maps.get(maps, *x.shape[-2:], *options, x.dtype, is_channels_last(x), device=x.device)
        )
