"""Areas and boxes of the segments of a map, as JSON files state them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from efficientps.structures import VOID
from efficientps.structures.segment_runs import run_starts


def measure_segments(
    segment_ids: NDArray[np.int32], ids: Sequence[int]
) -> tuple[NDArray[np.int64], list[int], list[tuple[int, int, int, int]]]:
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
    flat, width = segment_ids.ravel(), segment_ids.shape[1]
    starts = run_starts(flat, row_length=width)
    lengths = np.diff(starts, append=flat.size)
    positions = _positions(flat[starts], ids)
    row, left = np.divmod(starts, width)

    number = len(ids) + 1
    areas = np.bincount(positions, weights=lengths, minlength=number).astype(np.int64)
    low = np.full((number, 2), max(segment_ids.shape))
    high = np.zeros((number, 2), dtype=np.int64)
    np.minimum.at(low, positions, np.stack([left, row], axis=1))
    np.maximum.at(high, positions, np.stack([left + lengths, row + 1], axis=1))
    boxes = [(x, y, width, height) for x, y, width, height in np.hstack([low, high - low])[1:].tolist()]
    return np.repeat(positions, lengths).reshape(segment_ids.shape), areas[1:].tolist(), boxes


def _positions(values: NDArray[np.int32], ids: Sequence[int]) -> NDArray[np.int64]:
    """Return 0 for void and 1 + the position in the list for each segment id; refuse lists that do not fit the map."""
    position_of = {VOID: 0} | {segment_id: position for position, segment_id in enumerate(ids, start=1)}
    present, inverse = np.unique(values, return_inverse=True)
    if unlisted := sorted(set(present.tolist()) - position_of.keys()):
        raise ValueError(f"The panoptic map has pixels of segment {unlisted[0]}, which is not in its segments.")
    if missing := sorted(position_of.keys() - set(present.tolist()) - {VOID}):
        raise ValueError(f"The panoptic map has no pixel of segment {missing[0]}, which is in its segments.")
    return np.array([position_of[i] for i in present.tolist()], dtype=np.int64)[inverse.reshape(-1)]
