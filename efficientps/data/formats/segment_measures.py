"""Areas and boxes of the segments of a map, as JSON files state them; maps are visited in stripes, to bound memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from efficientps.data.formats.stripes import stripes
from efficientps.structures import VOID
from efficientps.structures.segment_runs import run_starts

Box = tuple[int, int, int, int]
"""``(x, y, width, height)`` in pixels."""


def measure_segments(
    segment_ids: NDArray[np.int32], ids: Sequence[int]
) -> tuple[NDArray[np.int64], list[int], list[Box]]:
    """Number the segments of a map and measure them, run of pixels by run of pixels.

    Args:
        segment_ids: the map ``[h, w]``.
        ids: the id of each segment.

    Raises:
        ValueError: if an id is in the map and not in the list, or the reverse.

    Returns:
        int64 ``[h, w]``, 0 where void and else 1 + the segment's position in the list; for each segment its area in
        pixels and its box ``(x, y, width, height)``.
    """
    areas, boxes = areas_and_boxes(segment_ids, ids)
    numbered = np.empty(segment_ids.shape, dtype=np.int64)
    for rows, values in renumbered(segment_ids, ids, range(1, len(ids) + 1)):
        numbered[rows] = values
    return numbered, areas, boxes


def areas_and_boxes(segment_ids: NDArray[np.int32], ids: Sequence[int]) -> tuple[list[int], list[Box]]:
    """Return the area in pixels and the box of each segment; arguments and errors are those of ``measure_segments``."""
    number = len(ids) + 1
    areas = np.zeros(number, dtype=np.int64)
    low = np.full((number, 2), max(segment_ids.shape, default=0))
    high = np.zeros((number, 2), dtype=np.int64)
    for rows, starts, lengths, positions in _runs(segment_ids, ids):
        row, left = np.divmod(starts, segment_ids.shape[1])
        row += rows.start
        areas += np.bincount(positions, weights=lengths, minlength=number).astype(np.int64)
        np.minimum.at(low, positions, np.stack([left, row], axis=1))
        np.maximum.at(high, positions, np.stack([left + lengths, row + 1], axis=1))
    if (empty := np.flatnonzero(areas[1:] == 0)).size:
        missing = min(ids[position] for position in empty.tolist())
        raise ValueError(f"The panoptic map has no pixel of segment {missing}, which is in its segments.")
    boxes = [(x, y, width, height) for x, y, width, height in np.hstack([low, high - low])[1:].tolist()]
    return areas[1:].tolist(), boxes


def renumbered(
    segment_ids: NDArray[np.int32], ids: Sequence[int], new_ids: Sequence[int]
) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Yield the map with other ids in stripes: the rows, and their ids, int32 ``[rows, w]``; void stays.

    Args:
        segment_ids: the map ``[h, w]``.
        ids: the id of each segment.
        new_ids: the one that it gets.

    Raises:
        ValueError: if an id is in the map and not in the list.
    """
    table = np.array([VOID, *new_ids], dtype=np.int32)
    for rows, _, lengths, positions in _runs(segment_ids, ids):
        yield rows, np.repeat(table[positions], lengths).reshape(-1, segment_ids.shape[1])


def _runs(
    segment_ids: NDArray[np.int32], ids: Sequence[int]
) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield stripes of rows with their runs: where each starts in the stripe, its length, and 1 + its position."""
    known = np.array([VOID, *ids], dtype=np.int64)
    order = np.argsort(known, kind="stable")
    for rows in stripes((segment_ids.shape[0], segment_ids.shape[1])):
        flat = segment_ids[rows].ravel()
        starts = run_starts(flat, row_length=segment_ids.shape[1])
        values = flat[starts]
        places = np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)
        positions = order[places]
        if (unlisted := values[known[positions] != values]).size:
            raise ValueError(f"The panoptic map has pixels of segment {unlisted.min()}, which is not in its segments.")
        yield rows, starts, np.diff(starts, append=flat.size), positions
