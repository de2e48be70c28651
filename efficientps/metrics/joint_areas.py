"""How many pixels two maps of ids share, pair by pair: the counts that panoptic quality and mIoU are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Integers: TypeAlias = npt.NDArray[np.integer[Any]]

_STRETCH = 1 << 17
"""Pixels that are read at a time on a CPU: they stay in the cache of a core until all is done with them."""

_LARGEST_TABLE = 1 << 20
"""Ids over which a table of positions is made; those that lie further apart are searched."""


class JointRuns(NamedTuple):
    """Two maps of ids, cut into R runs of pixels over which neither of them changes; NumPy arrays ``[R]`` each."""

    rows: _Integers  # the first map's id in each run
    columns: _Integers  # the second map's
    lengths: _Integers  # in pixels

    def areas(self, row_ids: Sequence[int], column_ids: Sequence[int]) -> Tensor:
        """Return the pixels of every pair of ids, see ``joint_areas``."""
        num_rows, num_columns = len(row_ids) + 1, len(column_ids) + 1
        pairs = _positions(self.rows, row_ids) * num_columns + _positions(self.columns, column_ids)
        # Sums of integers in doubles are exact far beyond the number of pixels of any image.
        areas = np.bincount(pairs, weights=self.lengths, minlength=num_rows * num_columns).astype(np.int64)
        return torch.from_numpy(areas.reshape(num_rows, num_columns))


def joint_areas(rows: Tensor, columns: Tensor, row_ids: Sequence[int], column_ids: Sequence[int]) -> Tensor:
    """Count the pixels of every pair of ids in two maps, in a single pass over their pixels.

    Args:
        rows: integer ``[h, w]``, the map whose ids are the rows of the answer.
        columns: integer ``[h, w]``, the map whose ids are its columns.
        row_ids: the R ids, each once, that ``rows`` is expected to hold.
        column_ids: the K ids, each once, that ``columns`` is expected to hold.

    Returns:
        int64 ``[R + 1, K + 1]`` on the CPU, in pixels, in the order of the ids; the last row and the last column
        count the pixels whose id is none of those given.

    Raises:
        ValueError: if the maps are of different sizes.

    >>> joint_areas(torch.tensor([[5, 5, 9]]), torch.tensor([[1, 2, 2]]), [5, 9], [1, 2]).tolist()
    [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    """
    (runs,) = joint_runs(rows, columns)
    return runs.areas(row_ids, column_ids)


def joint_runs(rows: Tensor, *columns: Tensor) -> list[JointRuns]:
    """Cut a map and each of some others into runs, in a single pass over the pixels of all.

    Maps of segments are constant over long runs of pixels, so only the places where any map changes are looked up;
    their cost is one comparison per pixel. Where a map lies on a CUDA device, the work is done there, and the host
    waits twice, however many maps there are: for the number of runs, and for the runs.

    Args:
        rows: integer ``[h, w]``.
        columns: integer ``[h, w]`` each, at least one; on any device.

    Returns:
        One for each of ``columns``: that map beside ``rows``.

    Raises:
        ValueError: if the maps are of different sizes.
    """
    for other in columns:
        if rows.shape != other.shape or rows.dim() != 2:
            raise ValueError(
                f"The two maps must be of one size [h, w], and are {list(rows.shape)} and {list(other.shape)};"
                " resize the prediction to the target."
            )
    devices = [map_of_ids.device for map_of_ids in (rows, *columns)]
    device = next((device for device in devices if device.type != "cpu"), devices[0])
    find_runs = _runs_on_cpu if device.type == "cpu" else _runs_on_device
    # A map in pinned memory, as a loader hands it over, travels while the host goes on.
    maps = [map_of_ids.to(device, non_blocking=True).flatten() for map_of_ids in (rows, *columns)]
    row_values, *values, lengths = find_runs(*maps)
    return [JointRuns(row_values, column_values, lengths) for column_values in values]


def _runs_on_cpu(*maps: Tensor) -> tuple[_Integers, ...]:
    """Cut flat maps into runs over which none changes: the runs' ids in each map, and at last their lengths.

    A run ends with its stretch as well; that adds to the number of runs, and to no count of pixels.
    NumPy compares and searches here in a third of the time that torch takes on a CPU.
    """
    stretches = zip(*(torch.split(flat, _STRETCH) for flat in maps), strict=True)
    runs = [_runs_of_stretch(*(part.numpy() for part in parts)) for parts in stretches]
    return tuple(np.concatenate(parts) for parts in zip(*runs, strict=True))


def _runs_of_stretch(*maps: _Integers) -> tuple[_Integers, ...]:
    first, *others = maps
    changed = first[1:] != first[:-1]
    for flat in others:
        changed |= flat[1:] != flat[:-1]
    starts = np.concatenate([np.arange(min(len(first), 1)), np.flatnonzero(changed) + 1])
    return (*(flat[starts] for flat in maps), np.diff(starts, append=len(first)))


def _runs_on_device(*maps: Tensor) -> tuple[_Integers, ...]:
    """Do the same where the maps are; only the runs, a hundredth of the pixels of a street scene, come to the CPU."""
    pixels = len(maps[0])
    begins = torch.ones(pixels, dtype=torch.bool, device=maps[0].device)  # the first pixel begins a run
    changed = begins[1:].zero_()
    for flat in maps:
        changed |= flat[1:] != flat[:-1]
    starts = begins.nonzero()[:, 0]
    # Half of the bytes where they hold all: ids of maps, and places in images, are below 2 ** 31 almost always.
    dtype = torch.int64 if any(flat.dtype == torch.int64 for flat in maps) else torch.int32
    runs = torch.stack([starts.to(dtype), *(flat[starts].to(dtype) for flat in maps)]).cpu().numpy()
    return (*runs[1:], np.diff(runs[0], append=pixels))


def _positions(values: _Integers, ids: Sequence[int]) -> _Integers:
    """Return the position of each value in a list of ids, ``len(ids)`` where it is not in it."""
    if not ids:
        return np.zeros(len(values), dtype=np.int64)
    low, high = min(ids), max(ids)
    if high - low < _LARGEST_TABLE:
        # One place more on each side, for all ids beyond.
        table = np.full(high - low + 3, len(ids))
        table[np.subtract(ids, low - 1)] = np.arange(len(ids))
        positions: _Integers = table[values.astype(np.int64).clip(low - 1, high + 1) - (low - 1)]
        return positions
    sorted_ids, position_of = np.sort(ids), np.argsort(ids)
    found = np.searchsorted(sorted_ids, values).clip(max=len(ids) - 1)
    return np.where(sorted_ids[found] == values, position_of[found], len(ids))
