"""The two-way feature pyramid network: top-down and bottom-up paths side by side, added at every level."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from efficientps.layers.conv import ConvNormAct, SeparableConv, xavier_init
from efficientps.layers.norm_act import InPlaceABN, NormAct
from efficientps.networks.counts import check_counts
from efficientps.structures import FeaturePyramid


class TwoWayFPN(nn.Module):
    """Aggregates the backbone's levels from coarse to fine and from fine to coarse (EfficientPS, Sec. 3.2, Fig. 2).

    Each level has two lateral 1x1 convolutions of its own, one for each path. Both paths resize by nearest neighbour:
    the bottom-up one plainly subsamples (DeepSceneSeg/EfficientPS:mmdet/models/necks/two_way_fpn.py; Fig. 2 shows an
    arrow only).

    Args:
        in_channels: channels of the backbone's levels, finest first.
        out_channels: channels of every output.
        separable_output: the 3x3 convolution after the sum is separable (Fig. 2; the only one that fits the paper's
            40.89 M parameters). False is the authors' code.
        intermediate_norm: whether the separable convolutions have a second norm, between their two convolutions.
        norm_act: builds the normalisation with its activation.

    Raises:
        ValueError: there are no channels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        out_channels: int = 256,
        separable_output: bool = True,
        intermediate_norm: bool = False,
        norm_act: NormAct = InPlaceABN,
    ) -> None:
        super().__init__()
        check_counts("two-way FPN", {"out_channels": out_channels})
        self.out_channels = out_channels

        def laterals() -> nn.ModuleList:
            return nn.ModuleList(ConvNormAct(channels, out_channels, norm_act=norm_act) for channels in in_channels)

        def output() -> nn.Module:
            if not separable_output:
                return ConvNormAct(out_channels, out_channels, kernel_size=3, norm_act=norm_act)
            return SeparableConv(out_channels, out_channels, intermediate_norm=intermediate_norm, norm_act=norm_act)

        self.top_down_laterals = laterals()
        self.bottom_up_laterals = laterals()
        self.outputs = nn.ModuleList(output() for _ in in_channels)
        xavier_init(self)

    def forward(self, features: FeaturePyramid) -> FeaturePyramid:
        """Return P4, P8, P16 and P32, each float ``[B, out_channels, H/s, W/s]``."""
        top_down = [lateral(x) for lateral, x in zip(self.top_down_laterals, features, strict=True)]
        bottom_up = [lateral(x) for lateral, x in zip(self.bottom_up_laterals, features, strict=True)]
        for fine in reversed(range(len(top_down) - 1)):
            top_down[fine] = top_down[fine] + _resize_like(top_down[fine + 1], top_down[fine])
        for coarse in range(1, len(bottom_up)):
            bottom_up[coarse] = bottom_up[coarse] + _resize_like(bottom_up[coarse - 1], bottom_up[coarse])
        return FeaturePyramid(*(output(a + b) for output, a, b in zip(self.outputs, top_down, bottom_up, strict=True)))


def _resize_like(x: Tensor, reference: Tensor) -> Tensor:
    return interpolate(x, size=reference.shape[-2:], mode="nearest")
