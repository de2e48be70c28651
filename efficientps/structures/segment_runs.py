"""Runs of equal ids in maps of segments.

A map of segments is constant over long runs of pixels. Code that reads only the first pixel of each run needs one
comparison per pixel to find the runs, and then handles about a hundredth of the pixels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from efficientps.structures.panoptic import VOID

Integers: TypeAlias = npt.NDArray[np.integer[Any]]

_STRETCH = 1 << 17
"""Pixels that a CPU processes at a time, few enough to stay in the cache of a core."""


_FEW_RUNS = 64
"""Runs that Python counts faster than NumPy."""


def run_starts(*maps: Integers, row_length: int | None = None) -> npt.NDArray[np.int64]:
    """Return the position of the first pixel of each run, in increasing order.

    Args:
        maps: one or more flat maps of one size, integer ``[P]`` each; a run ends where any map changes.
        row_length: number of pixels of a row, if runs must also end at the end of a row.

    >>> run_starts(np.array([7, 7, 7, 0, 0, 9])).tolist()
    [0, 3, 5]
    >>> run_starts(np.array([7, 7, 7, 0, 0, 9]), row_length=2).tolist()
    [0, 2, 3, 4, 5]
    """
    first, *others = maps
    changed = first[1:] != first[:-1]
    for flat in others:
        changed |= flat[1:] != flat[:-1]
    if row_length is not None:
        changed[row_length - 1 :: row_length] = True
    return np.concatenate([np.arange(min(len(first), 1)), np.flatnonzero(changed) + 1])


def present_ids(segment_ids: npt.NDArray[np.int32]) -> list[int]:
    """Return the segment ids that occur in a map int32 ``[h, w]``, ``VOID`` excepted, in increasing order.

    The ids of the runs are marked in a table of flags, which is faster than sorting them.

    Raises:
        ValueError: if an id is negative.

    >>> present_ids(np.array([[7, 0], [26001, 7]], dtype=np.int32))
    [7, 26001]
    """
    flat = segment_ids.ravel()
    firsts = flat[run_starts(flat)]
    if firsts.min(initial=VOID) < 0:
        raise ValueError(f"the map has the segment id {firsts.min()}; ids must be at least 0 (void).")
    seen = np.zeros(int(firsts.max(initial=VOID)) + 1, dtype=bool)
    seen[firsts] = True
    seen[VOID] = False
    ids: list[int] = np.flatnonzero(seen).tolist()
    return ids


def areas_of(segment_ids: npt.NDArray[np.int32]) -> dict[int, int]:
    """Return the number of pixels of each id in a map int32 ``[h, w]``, by increasing id and including ``VOID``.

    >>> areas_of(np.array([[7, 7, 0], [0, 7, 9]], dtype=np.int32))
    {0: 2, 7: 3, 9: 1}
    """
    flat = segment_ids.ravel()
    starts = run_starts(flat)
    if len(starts) <= _FEW_RUNS:
        few: dict[int, int] = {}
        for segment_id, (start, end) in zip(
            flat[starts].tolist(), pairwise([*starts.tolist(), flat.size]), strict=True
        ):
            few[segment_id] = few.get(segment_id, 0) + end - start
        return dict(sorted(few.items()))
    ids, runs = np.unique(flat[starts], return_inverse=True)
    areas = np.bincount(runs, weights=np.diff(starts, append=flat.size)).astype(np.int64)
    return dict(zip(ids.tolist(), areas.tolist(), strict=True))


def runs_of_maps(*maps: Tensor) -> tuple[Integers, ...]:
    """Split flat maps into runs of pixels over which all maps are constant, on the device of the maps.

    Args:
        maps: integer ``[P]`` each, all on one device.

    Returns:
        The id of each run in each map, and finally the lengths of the runs in pixels; NumPy arrays ``[R]``. Two
        consecutive runs may have equal ids, which does not affect sums of lengths.
    """
    return _runs_on_cpu(*maps) if maps[0].device.type == "cpu" else _runs_on_device(*maps)


def _runs_on_cpu(*maps: Tensor) -> tuple[Integers, ...]:
    """Find the runs with NumPy, which is faster at this than torch on a CPU, in parts of ``_STRETCH`` pixels."""
    stretches = zip(*(torch.split(flat, _STRETCH) for flat in maps), strict=True)
    runs = [_runs_of_stretch(*(part.numpy() for part in parts)) for parts in stretches]
    return tuple(np.concatenate(parts) for parts in zip(*runs, strict=True))


def _runs_of_stretch(*maps: Integers) -> tuple[Integers, ...]:
    starts = run_starts(*maps)
    return (*(flat[starts] for flat in maps), np.diff(starts, append=len(maps[0])))


def _runs_on_device(*maps: Tensor) -> tuple[Integers, ...]:
    """Find the runs on the device and copy only their ids and lengths to the CPU."""
    pixels = len(maps[0])
    begins = torch.ones(pixels, dtype=torch.bool, device=maps[0].device)  # the first pixel begins a run
    changed = begins[1:].zero_()
    for flat in maps:
        changed |= flat[1:] != flat[:-1]
    starts = begins.nonzero()[:, 0]
    # int32 halves the bytes of the copy; int64 is needed only if a map has it.
    dtype = torch.int64 if any(flat.dtype == torch.int64 for flat in maps) else torch.int32
    runs = torch.stack([starts.to(dtype), *(flat[starts].to(dtype) for flat in maps)]).cpu().numpy()
    return (*runs[1:], np.diff(runs[0], append=pixels))
