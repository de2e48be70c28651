"""Convolutions with their normalisation and activation: plain and depthwise separable."""

from __future__ import annotations

from torch import nn

from efficientps.layers.norm_act import InPlaceABN, NormAct


class ConvNormAct(nn.Sequential):
    """A convolution without bias, then normalisation and activation; the spatial size is kept.

    Args:
        in_channels: channels of the input ``[B, in_channels, H, W]``.
        out_channels: channels of the output ``[B, out_channels, H, W]``.
        kernel_size: odd.
        norm_act: builds the normalisation with its activation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 1, norm_act: NormAct = InPlaceABN
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            norm_act(out_channels),
        )


class SeparableConv(nn.Sequential):
    """A 3x3 depthwise and a 1x1 pointwise convolution, then normalisation and activation; the spatial size is kept.

    The parameter count of the paper (40.89 M) fits one normalisation, after the pointwise convolution. The authors'
    code has a second normalisation between the two convolutions (DeepSceneSeg/EfficientPS:mmdet/ops,
    DepthwiseSeparableConvModule).

    Args:
        in_channels: channels of the input ``[B, in_channels, H, W]``.
        out_channels: channels of the output ``[B, out_channels, H, W]``.
        dilation: dilation and padding of the depthwise convolution, one number or (rows, columns).
        intermediate_norm: normalise and activate between the two convolutions as well.
        norm_act: builds the normalisation with its activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilation: int | tuple[int, int] = 1,
        intermediate_norm: bool = False,
        norm_act: NormAct = InPlaceABN,
    ) -> None:
        depthwise = nn.Conv2d(
            in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
        )
        pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        between = [norm_act(in_channels)] if intermediate_norm else []
        super().__init__(depthwise, *between, pointwise, norm_act(out_channels))


def xavier_init(module: nn.Module) -> None:
    """Initialise every convolution inside a module with Xavier uniform weights and zero biases.

    Source: DeepSceneSeg/EfficientPS:mmdet/models/necks/two_way_fpn.py, ``init_weights``.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
