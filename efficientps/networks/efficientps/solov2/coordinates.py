"""Coordinates as additional channels of a feature map: plain (CoordConv), or as sine and cosine waves."""

from __future__ import annotations

import torch
from torch import Tensor


def coordinates(
    height: int, width: int, dtype: torch.dtype, channels_last: bool = False, *, device: torch.device
) -> Tensor:
    """Return maps ``[1, 2, H, W]`` of the coordinates x and y of each cell, -1 to 1 between the outermost centres.

    >>> coordinates(2, 3, torch.float32, device=torch.device("cpu"))[0].tolist()
    [[[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]], [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]]
    """
    across = torch.linspace(-1, 1, width, device=device).expand(height, width)
    down = torch.linspace(-1, 1, height, device=device)[:, None].expand(height, width)
    return _laid_out(torch.stack([across, down])[None].to(dtype), channels_last)


def fourier_features(
    height: int, width: int, octaves: int, dtype: torch.dtype, channels_last: bool = False, *, device: torch.device
) -> Tensor:
    """Return maps ``[1, 4 * octaves, H, W]`` of sines and cosines of the coordinates of each cell.

    A kernel computes its mask as a linear function of the mask features at each pixel. A linear function of plain
    coordinates is a ramp, which cannot separate two objects on one side of it. A linear function of sines and cosines
    can be a periodic bump around any place, whose height and width the kernel chooses (Tancik et al., "Fourier Features
    Let Networks Learn High Frequency Functions in Low Dimensional Domains", NeurIPS 2020).

    Args:
        height: H, in cells.
        width: W, in cells.
        octaves: number of frequencies of each axis; the slowest has half a period along the axis, and each further one
            has twice the frequency of the one before.
        dtype: dtype of the maps.
        channels_last: memory format of the maps.
        device: device of the maps.

    Returns:
        Sine before cosine, slow before fast, x before y. Coordinates are those of the cells' centres in units of the
        axis, so that maps of different sizes agree.

    >>> fourier_features(1, 2, 1, torch.float32, device=torch.device("cpu"))[0, :2, 0]  # along x
    tensor([[ 0.7071,  0.7071],
            [ 0.7071, -0.7071]])
    """
    phases = torch.pi * 2.0 ** torch.arange(octaves, device=device)[:, None]
    maps = []
    for size, shape in ((width, (1, width)), (height, (height, 1))):
        angles = phases * (torch.arange(size, device=device) + 0.5) / size
        waves = torch.stack([angles.sin(), angles.cos()], dim=1)
        maps.append(waves.view(2 * octaves, *shape).expand(2 * octaves, height, width))
    return _laid_out(torch.cat(maps)[None].to(dtype), channels_last)


def append_maps(x: Tensor, maps: Tensor) -> Tensor:
    """Append maps ``[1, K, H, W]``, of the type of ``x`` ``[B, C, H, W]``, to the channels of each of its images."""
    if maps.shape[1] == 0:
        return x
    return torch.cat([x, _laid_out(maps.expand(len(x), -1, -1, -1), is_channels_last(x))], dim=1)


def is_channels_last(x: Tensor) -> bool:
    """Return whether the channels of each place of ``x`` ``[B, C, H, W]`` lie side by side in memory."""
    return x.is_contiguous(memory_format=torch.channels_last)


def _laid_out(maps: Tensor, channels_last: bool) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
