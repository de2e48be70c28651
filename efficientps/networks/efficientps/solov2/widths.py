"""The published sizes of SOLOv2's towers."""

from __future__ import annotations

from typing import Literal, NamedTuple

from efficientps.networks.counts import check_counts


class Width(NamedTuple):
    """Convolutions of each tower, their channels, and the length of a kernel."""

    num_convs: int
    channels: int
    kernel_channels: int


WIDTHS = {"full": Width(4, 512, 256), "light": Width(2, 256, 128)}
"""The presets (WXinlong/SOLO:configs/solov2/solov2_r50_fpn_8gpu_3x.py, solov2_light_448_r50_fpn_8gpu_3x.py)."""


def chosen_width(
    preset: Literal["full", "light"], num_convs: int | None, channels: int | None, kernel_channels: int | None
) -> Width:
    """Return the sizes that are given, and those of the preset where they are None.

    Raises:
        ValueError: a size is below 1.

    >>> chosen_width("light", 3, None, None)
    Width(num_convs=3, channels=256, kernel_channels=128)
    """
    given = Width._fields, (num_convs, channels, kernel_channels), WIDTHS[preset]
    width = {name: published if size is None else size for name, size, published in zip(*given, strict=True)}
    check_counts("SOLOv2 head", width)
    return Width(**width)
