"""The five levels of cells: the maps that they are read from, and the order of the cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efficientps.networks.efficientps.solov2.coordinates import append_maps, coordinates, fourier_features
from efficientps.structures import FeaturePyramid

LEAST_AREAS = (8, 8, 16, 32, 32)
"""For each level, the number of cells at stride 4 that a mask must exceed: the stride of the level, as published."""


def check_levels(entries: Mapping[str, Sequence[object] | None]) -> None:
    """Refuse options that do not have an entry for each of the five levels; None means that an option is not given.

    Raises:
        ValueError: an option has more entries, or fewer.
    """
    levels = len(LEAST_AREAS)
    for name, values in entries.items():
        if values is not None and len(values) != levels:
            raise ValueError(
                f"SOLOv2Head takes one entry of {name} for each of its {levels} levels; there are {len(values)}."
            )


def five_levels(pyramid: FeaturePyramid, finest_grid: tuple[int, int]) -> list[Tensor]:
    """Return the maps that the grids are read from: P4 at the size of P8, P8, P16, P32, and P32 subsampled by two.

    The fifth is brought back to the size of P32 (WXinlong/SOLO:mmdet/models/anchor_heads/solov2_head.py,
    ``split_feats``). Of small images, for which the finest grid has more rows or columns than P8, P4 stays as it is:
    neighbouring cells would otherwise be read from the same place.
    """
    height, width = pyramid.p8.shape[-2:]
    p4 = pyramid.p4
    if finest_grid[0] <= height and finest_grid[1] <= width:
        p4 = resize(p4, (height, width))
    p64 = resize(pyramid.p32[..., ::2, ::2], (pyramid.p32.shape[2], pyramid.p32.shape[3]))
    return [p4, pyramid.p8, pyramid.p16, pyramid.p32, p64]


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map ``[B, C, H, W]`` at another size, bilinearly.

    Under autocast on CUDA it would run in float32, so that gradients are added in float32. Without gradients it runs in
    half precision, which saves two copies; the kernel itself computes in float32.
    """
    with torch.autocast("cuda", enabled=False) if x.is_cuda and not torch.is_grad_enabled() else nullcontext():
        return interpolate(x, size=size, mode="bilinear")


def maps_of_level(
    height: int,
    width: int,
    grid: tuple[int, int],
    octaves: int,
    dtypes: tuple[torch.dtype, torch.dtype],
    channels_last: bool,
    *,
    device: torch.device,
) -> Tensor:
    """Return the maps that the kernels of a level see beside its features, ``[1, 2 + 4 * octaves, rows, columns]``.

    Coordinates are those of the level, and are resized with it; the waves are those of the grid.

    Args:
        height: height of the level.
        width: width of the level.
        grid: rows and columns.
        octaves: number of frequencies of the sine and cosine waves over rows and columns.
        dtypes: types of the level and of the resized level.
        channels_last: memory format of the result.
        device: device of the result.
    """
    places = resize(coordinates(height, width, dtypes[0], channels_last, device=device), grid).to(dtypes[1])
    return append_maps(places, fourier_features(*grid, octaves, dtypes[1], channels_last, device=device))


def areas_of_cells(grids: Sequence[tuple[int, int]], least_areas: Sequence[int], *, device: torch.device) -> Tensor:
    """Return the area that the mask of each cell must exceed, int64 ``[cells]``, from that of each level."""
    numbers = torch.tensor([rows * columns for rows, columns in grids])
    return torch.tensor(least_areas).repeat_interleave(numbers).to(device)


def list_of_cells(levels: Sequence[Tensor]) -> Tensor:
    """Return maps ``[B, K, rows, columns]`` as one list of cells, ``[B, cells, K]``."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
