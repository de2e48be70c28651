"""Segments of an image from the class of each pixel and the number of its instance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.segment_measures import measure_segments
from efficientps.structures import VOID
from efficientps.structures.segment_runs import run_starts

Uncounted: TypeAlias = Literal["crowd", "void"]
LabelMap: TypeAlias = NDArray[np.int64]

NO_CLASS = -1
NO_INSTANCE = -1


def segments_of_masks(
    classes: LabelMap, instances: LabelMap, *, things: frozenset[int], uncounted: Uncounted = "crowd"
) -> tuple[NDArray[np.int32], list[SegmentEntry]]:
    """Make the panoptic map of an image.

    A segment is what has one class and one number: a number that occurs in two classes makes two instances. All pixels
    of a stuff class are one segment, whatever their numbers.

    Args:
        classes: the class of each pixel ``[h, w]``, ``NO_CLASS`` where it is void.
        instances: the number of each pixel's instance, ``NO_INSTANCE`` where it has none.
        things: ids of the classes with instances.
        uncounted: what pixels of a thing class without an instance become: one crowd region of the class, or void.

    Returns:
        The map int32 ``[h, w]``, ids from 1, and its segments in the order of classes; of each, its crowd region first.

    >>> ids, segments = segments_of_masks(
    ...     np.array([[7, 7, 26, 26, 26]]), np.array([[3, -1, 5, 5, -1]]), things=frozenset({26})
    ... )
    >>> ids.tolist(), [(segment.category_id, segment.is_crowd) for segment in segments]
    ([[1, 1, 3, 3, 2]], [(7, False), (26, True), (26, False)])
    """
    flat_classes, flat_numbers = classes.ravel(), instances.ravel()
    starts = run_starts(flat_classes, flat_numbers)
    label, number = flat_classes[starts], flat_numbers[starts].copy()
    is_thing = np.isin(label, list(things))
    number[~is_thing] = NO_INSTANCE
    is_void = (label == NO_CLASS) | (is_thing & (number == NO_INSTANCE) & (uncounted == "void"))
    pairs, position = np.unique(np.stack([label, number])[:, ~is_void], axis=1, return_inverse=True)
    run_ids = np.full(len(starts), VOID, dtype=np.int32)
    run_ids[~is_void] = position.reshape(-1) + 1
    segment_ids = np.repeat(run_ids, np.diff(starts, append=flat_classes.size)).reshape(classes.shape)
    _, areas, boxes = measure_segments(segment_ids, range(1, pairs.shape[1] + 1))
    segments = [
        SegmentEntry(segment_id, category_id, category_id in things and number == NO_INSTANCE, area, box)
        for segment_id, (category_id, number, area, box) in enumerate(
            zip(*pairs.tolist(), areas, boxes, strict=True), start=1
        )
    ]
    return segment_ids, segments


def components(classes: LabelMap, things: Iterable[int], *, min_area: int = 0) -> LabelMap:
    """Number the connected parts of each thing class; pixels that touch at an edge or a corner are connected.

    Args:
        classes: the class of each pixel ``[h, w]``.
        things: ids of the classes with instances.
        min_area: parts of fewer pixels are no instances.

    Returns:
        The number of each pixel's part, ``NO_INSTANCE`` elsewhere.

    >>> components(np.array([[5, 0, 5], [0, 5, 0], [0, 0, 0], [5, 0, 0]]), [5]).tolist()
    [[1, -1, 1], [-1, 1, -1], [-1, -1, -1], [2, -1, -1]]
    """
    numbers = np.full(classes.shape, NO_INSTANCE, dtype=np.int64)
    for category_id in sorted(set(things)):
        mask = (classes == category_id).astype(np.uint8)
        if not mask.any():
            continue
        _, parts = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
        large = np.bincount(parts.ravel()) >= min_area
        large[0] = False
        chosen = large[parts]
        numbers[chosen] = parts[chosen]
    return numbers
