"""The published sizes of SOLOv2's towers."""

from __future__ import annotations

from typing import NamedTuple


class Width(NamedTuple):
    """Convolutions of each tower, their channels, and the length of a kernel."""

    num_convs: int
    channels: int
    kernel_channels: int


WIDTHS = {"full": Width(4, 512, 256), "light": Width(2, 256, 128)}
"""WXinlong/SOLO:configs/solov2/solov2_r50_fpn_8gpu_3x.py and solov2_light_448_r50_fpn_8gpu_3x.py."""
