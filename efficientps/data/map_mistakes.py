"""What went wrong in the making of a panoptic map, where its ids are not those of its annotation."""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass

_MANY = 64
"""Fewer ids without a segment may be a mistake of another kind; a lossy copy of a map has hundreds."""


@dataclass(frozen=True)
class MapMistake:
    """A mistake that explains all differences between a map and its annotation.

    Attributes:
        kind: what is wrong, as the end of a sentence about the map.
        remedy: what to do about it.
    """

    kind: str
    remedy: str


def mistake_of(present: Set[int], listed: Set[int], category_ids: Collection[int] = ()) -> MapMistake | None:
    """Return the mistake behind ids of a map that differ from those of its annotation, None if it is none of these.

    Args:
        present: the ids in the map, void excepted.
        listed: the ids of the annotation.
        category_ids: ids of the classes.

    >>> mistake_of({26 << 16 | 7}, {26 | 7 << 16}).kind
    'has the ids of the annotation file if its channels are read in reverse'
    """
    unlisted = present - listed
    if not unlisted:
        return None
    if {_reversed(number) for number in present} == listed:
        return MapMistake(
            "has the ids of the annotation file if its channels are read in reverse",
            "write maps as RGB with id = R + 256 G + 65536 B; OpenCV's imwrite takes channels as BGR",
        )
    if len(unlisted) > max(_MANY, 4 * len(listed)):
        return MapMistake(
            "has many times more colours than the annotation file has segments, as after saving as JPEG or "
            "interpolation",
            "make maps from the source again: save them as PNG alone, and resize them to the nearest pixel",
        )
    if present <= set(category_ids):
        return MapMistake(
            "has ids of categories where ids of segments belong",
            "write the id of each segment into its pixels; a semantic map has no segments (efficientps convert masks "
            "makes them)",
        )
    return None


def _reversed(number: int) -> int:
    return int.from_bytes(number.to_bytes(3, "little"), "big")
