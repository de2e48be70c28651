"""Intersection areas of two maps of ids, for every pair of ids: the counts behind panoptic quality and mIoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from efficientps.structures.segment_runs import Integers, runs_of_maps

_LARGEST_TABLE = 1 << 20
"""Largest range of ids for a lookup table of positions; in a larger range the ids are found by binary search."""


class JointRuns(NamedTuple):
    """Two maps of ids, split into R runs of pixels in which both maps are constant; NumPy arrays ``[R]``."""

    rows: Integers  # id of the first map in each run
    columns: Integers  # id of the second map in each run
    lengths: Integers  # number of pixels of each run

    def areas(self, row_ids: Sequence[int], column_ids: Sequence[int]) -> Tensor:
        """Return the number of pixels of every pair of ids.

        Args:
            row_ids: the N ids, each once, that the first map is expected to hold.
            column_ids: the K ids, each once, that the second map is expected to hold.

        Returns:
            int64 ``[N + 1, K + 1]`` on the CPU, in pixels, in the order of the ids; the last row and the last column
            count the pixels with any other id.

        >>> (runs,) = joint_runs(torch.tensor([[5, 5, 9]]), torch.tensor([[1, 2, 2]]))
        >>> runs.areas([5, 9], [1, 2]).tolist()
        [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
        """
        num_rows, num_columns = len(row_ids) + 1, len(column_ids) + 1
        pairs = _positions(self.rows, row_ids) * num_columns + _positions(self.columns, column_ids)
        # float64 sums of integers are exact up to 2**53, far more than the pixels of any image.
        areas = np.bincount(pairs, weights=self.lengths, minlength=num_rows * num_columns).astype(np.int64)
        return torch.from_numpy(areas.reshape(num_rows, num_columns))


def joint_runs(rows: Tensor, *columns: Tensor) -> list[JointRuns]:
    """Split a map and one or more other maps into runs, in a single pass over the pixels of all maps.

    A run ends where any of the maps changes. If a map is on a CUDA device, the runs are found there, and the host waits
    twice, independent of the number of maps: for the number of runs, and for the runs.

    Args:
        rows: integer ``[h, w]``.
        columns: one or more maps, integer ``[h, w]`` each, on any device.

    Returns:
        For each map of ``columns``, the runs of ``rows`` and that map.

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
    # A map in pinned memory is copied without a wait.
    maps = [map_of_ids.to(device, non_blocking=True).flatten() for map_of_ids in (rows, *columns)]
    row_values, *values, lengths = runs_of_maps(*maps)
    return [JointRuns(row_values, column_values, lengths) for column_values in values]


def _positions(values: Integers, ids: Sequence[int]) -> Integers:
    """Return the index of each value in a list of ids, or ``len(ids)`` for values that are not in the list."""
    if not ids:
        return np.zeros(len(values), dtype=np.int64)
    low, high = min(ids), max(ids)
    if high - low < _LARGEST_TABLE:
        # One extra entry at each end stands for all values outside of the range.
        table = np.full(high - low + 3, len(ids))
        table[np.subtract(ids, low - 1)] = np.arange(len(ids))
        positions: Integers = table[values.astype(np.int64).clip(low - 1, high + 1) - (low - 1)]
        return positions
    sorted_ids, position_of = np.sort(ids), np.argsort(ids)
    found = np.searchsorted(sorted_ids, values).clip(max=len(ids) - 1)
    return np.where(sorted_ids[found] == values, position_of[found], len(ids))
