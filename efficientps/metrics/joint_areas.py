"""How many pixels two maps of ids share, pair by pair: the counts that panoptic quality and mIoU are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Integers: TypeAlias = npt.NDArray[np.integer[Any]]

_STRETCH = 1 << 17
"""Pixels that are read at a time on a CPU: they stay in the cache of a core until all is done with them."""

_LARGEST_TABLE = 1 << 20
"""Ids over which a table of positions is made; those that lie further apart are searched."""


def joint_areas(rows: Tensor, columns: Tensor, row_ids: Sequence[int], column_ids: Sequence[int]) -> Tensor:
    """Count the pixels of every pair of ids in two maps, in a single pass over their pixels.

    Maps of segments are constant over long runs of pixels, so only the places where either map changes are looked
    up; their cost is one comparison per pixel. Works on the device of the maps and waits for it twice.

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
    if rows.shape != columns.shape or rows.dim() != 2:
        raise ValueError(
            f"The two maps must be of one size [h, w], and are {list(rows.shape)} and {list(columns.shape)};"
            " resize the prediction to the target."
        )
    find_runs = _runs_on_cpu if rows.device.type == "cpu" else _runs_on_device
    row_values, column_values, lengths = find_runs(rows.flatten(), columns.to(rows.device).flatten())
    num_rows, num_columns = len(row_ids) + 1, len(column_ids) + 1
    pairs = _positions(row_values, row_ids) * num_columns + _positions(column_values, column_ids)
    # Sums of integers in doubles are exact far beyond the number of pixels of any image.
    areas = np.bincount(pairs, weights=lengths, minlength=num_rows * num_columns).astype(np.int64)
    return torch.from_numpy(areas.reshape(num_rows, num_columns))


def _runs_on_cpu(rows: Tensor, columns: Tensor) -> tuple[_Integers, _Integers, _Integers]:
    """Cut two flat maps into runs over which neither changes: the runs' ids in both maps, and their lengths.

    A run ends with its stretch as well; that adds to the number of runs, and to no count of pixels.
    NumPy compares and searches here in a third of the time that torch takes on a CPU.
    """
    stretches = zip(torch.split(rows, _STRETCH), torch.split(columns, _STRETCH), strict=True)
    runs = [_runs_of_stretch(row_part.numpy(), column_part.numpy()) for row_part, column_part in stretches]
    row_values, column_values, lengths = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    return row_values, column_values, lengths


def _runs_of_stretch(rows: _Integers, columns: _Integers) -> tuple[_Integers, _Integers, _Integers]:
    changed = rows[1:] != rows[:-1]
    changed |= columns[1:] != columns[:-1]
    starts = np.concatenate([np.arange(min(len(rows), 1)), np.flatnonzero(changed) + 1])
    return rows[starts], columns[starts], np.diff(starts, append=len(rows))


def _runs_on_device(rows: Tensor, columns: Tensor) -> tuple[_Integers, _Integers, _Integers]:
    """Do the same where the maps are; only the runs, a hundredth of the pixels of a street scene, come to the CPU."""
    changes = torch.where((rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1]))[0] + 1
    starts = torch.cat([changes.new_zeros(min(len(rows), 1)), changes])
    runs = torch.stack([starts, rows[starts].long(), columns[starts].long()]).cpu().numpy()
    return runs[1], runs[2], np.diff(runs[0], append=len(rows))


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
