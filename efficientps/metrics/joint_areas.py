"""How many pixels two maps of ids share, pair by pair: the counts that panoptic quality and mIoU are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from efficientps.structures.segment_runs import Integers, runs_of_maps

_LARGEST_TABLE = 1 << 20
"""Ids over which a table of positions is made; those that lie further apart are searched."""


class JointRuns(NamedTuple):
    """Two maps of ids, cut into R runs of pixels over which neither of them changes; NumPy arrays ``[R]`` each."""

    rows: Integers  # the first map's id in each run
    columns: Integers  # the second map's
    lengths: Integers  # in pixels

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
    # A map in pinned memory, as a loader hands it over, travels while the host goes on.
    maps = [map_of_ids.to(device, non_blocking=True).flatten() for map_of_ids in (rows, *columns)]
    row_values, *values, lengths = runs_of_maps(*maps)
    return [JointRuns(row_values, column_values, lengths) for column_values in values]


def _positions(values: Integers, ids: Sequence[int]) -> Integers:
    """Return the position of each value in a list of ids, ``len(ids)`` where it is not in it."""
    if not ids:
        return np.zeros(len(values), dtype=np.int64)
    low, high = min(ids), max(ids)
    if high - low < _LARGEST_TABLE:
        # One place more on each side, for all ids beyond.
        table = np.full(high - low + 3, len(ids))
        table[np.subtract(ids, low - 1)] = np.arange(len(ids))
        positions: Integers = table[values.astype(np.int64).clip(low - 1, high + 1) - (low - 1)]
        return positions
    sorted_ids, position_of = np.sort(ids), np.argsort(ids)
    found = np.searchsorted(sorted_ids, values).clip(max=len(ids) - 1)
    return np.where(sorted_ids[found] == values, position_of[found], len(ids))
