"""Paint masks that may overlap into a panoptic map, in which each pixel belongs to one segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.segment_measures import measure_segments
from efficientps.structures import VOID

Overlap: TypeAlias = Literal["smaller", "later"]
Mask: TypeAlias = NDArray[np.bool_]


class Instance(NamedTuple):
    """One annotation of an image: its class, its mask bool ``[h, w]``, and whether it is a region of several."""

    category_id: int
    mask: Mask
    is_crowd: bool


def paint_instances(
    size: tuple[int, int],
    instances: Sequence[Instance],
    *,
    overlap: Overlap = "smaller",
    things: frozenset[int],
    behind: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int32], list[SegmentEntry]]:
    """Paint instances over each other and over the background; each pixel belongs to one segment.

    The order is: first the background; then stuff classes and crowd regions; then the instances, the topmost one last.
    "smaller" puts the smaller mask on top (a helmet on a worker); "later" the later annotation. Among equals the later
    annotation is on top.

    Args:
        size: (h, w).
        instances: the annotations in the order of the file.
        overlap: the rule for the order of the instances.
        things: ids of the classes with instances; all annotations of another class become one segment.
        behind: int64 ``[h, w]``, the background: class of each pixel, negative where void. Pixels of a thing class
            become a crowd region of that class, because the number of their instances is not known.

    Returns:
        The map int32 ``[h, w]``, ids from 1, and its segments; annotations without a visible pixel have none.

    >>> worker = Instance(1, np.array([[True, True, True, False]]), False)
    >>> helmet = Instance(2, np.array([[False, True, False, False]]), False)
    >>> ids, segments = paint_instances(
    ...     (1, 4), [helmet, worker], things=frozenset({1, 2}), behind=np.full((1, 4), 9)
    ... )
    >>> ids.tolist(), [(segment.id, segment.category_id) for segment in segments]
    ([[2, 3, 2, 1]], [(1, 9), (2, 1), (3, 2)])
    """
    segment_ids = np.full(size, VOID, dtype=np.int32)
    classes: list[tuple[int, bool]] = []  # of each segment: its class, and whether it is a crowd
    shared: dict[int, int] = {}

    def claim(category_id: int, *, crowd: bool) -> int:
        """Return the id of a new segment."""
        classes.append((category_id, crowd))
        return len(classes)

    def region(category_id: int) -> int:
        """Return the id of the one segment of a stuff class, or of the crowd region of a thing class."""
        if category_id not in shared:
            shared[category_id] = claim(category_id, crowd=category_id in things)
        return shared[category_id]

    if behind is not None:
        for category_id in np.unique(behind[behind >= 0]).tolist():
            segment_ids[behind == category_id] = region(category_id)
    counted: list[Instance] = []
    for instance in instances:
        if instance.is_crowd or instance.category_id not in things:
            segment_ids[instance.mask] = region(instance.category_id)
        else:
            counted.append(instance)
    if overlap == "smaller":
        counted.sort(key=lambda instance: -int(instance.mask.sum()))
    for instance in counted:
        segment_ids[instance.mask] = claim(instance.category_id, crowd=False)
    return _numbered(segment_ids, classes)


def _numbered(
    segment_ids: NDArray[np.int32], classes: Sequence[tuple[int, bool]]
) -> tuple[NDArray[np.int32], list[SegmentEntry]]:
    """Number the segments that can be seen from 1, and measure them."""
    visible = [segment_id for segment_id in np.unique(segment_ids).tolist() if segment_id != VOID]
    index, areas, boxes = measure_segments(segment_ids, visible)
    entries = [
        SegmentEntry(number, classes[segment_id - 1][0], classes[segment_id - 1][1], area, box)
        for number, (segment_id, area, box) in enumerate(zip(visible, areas, boxes, strict=True), start=1)
    ]
    return index.astype(np.int32), entries
