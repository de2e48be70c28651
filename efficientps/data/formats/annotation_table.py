"""The images and segments of a COCO panoptic file, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.packed_sequence import PackedSequence
from efficientps.data.formats.packed_text import PackedText


class PanopticEntry(NamedTuple):
    """Entry of one image in the JSON file.

    Attributes:
        image_id: the image's id; numbers are written out.
        map_file_name: name of the PNG with the segment ids, relative to the folder of the maps.
        segments: one entry for each segment of the map.
        image_file_name: name of the image as the file gives it; empty if it lists no images (predictions need not).
        size: (h, w) of the image; None if the file lists no images.
    """

    image_id: str
    map_file_name: str
    segments: tuple[SegmentEntry, ...]
    image_file_name: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """The segments of all images, one after the other.

    Attributes:
        offsets: int64 ``[images + 1]``, where the segments of each image begin and end.
        ids: int32 ``[segments]``.
        category_ids: int64 ``[segments]``.
        crowds: bool ``[segments]``.
        areas: int64 ``[segments]``, number of pixels; 0 where it is not known.
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]
    category_ids: NDArray[np.int64]
    crowds: NDArray[np.bool_]
    areas: NDArray[np.int64]

    def of(self, image: int) -> tuple[SegmentEntry, ...]:
        """Return the segments of the image at a position."""
        part = slice(self.offsets[image], self.offsets[image + 1])
        columns: tuple[NDArray[Any], ...] = (self.ids, self.category_ids, self.crowds, self.areas)
        return tuple(map(SegmentEntry, *(column[part].tolist() for column in columns)))

    def image_of(self, segment: int) -> int:
        """Return the position of the image that a segment belongs to."""
        return int(np.searchsorted(self.offsets, segment, side="right")) - 1

    def largest_count(self) -> int:
        """Return the most segments, crowd regions aside, that one image has."""
        running = np.concatenate([[0], np.cumsum(~self.crowds)])
        return int((running[self.offsets[1:]] - running[self.offsets[:-1]]).max(initial=0))


@dataclass(frozen=True, eq=False)
class AnnotationTable(PackedSequence[PanopticEntry]):
    """The entries of a file, in the order of its annotations; one is made when it is asked for.

    Attributes:
        image_ids: id of each image.
        map_names: name of each map.
        image_names: name of each image file; empty where the file lists no images.
        sizes: int32 ``[images, 2]``, (h, w) of each image; 0 where the file lists no images.
        segments: the segments of each image.
    """

    image_ids: PackedText
    map_names: PackedText
    image_names: PackedText
    sizes: NDArray[np.int32]
    segments: SegmentTable

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.image_ids)

    def at(self, position: int) -> PanopticEntry:
        """Make the entry of an image."""
        return PanopticEntry(
            self.image_ids[position],
            self.map_names[position],
            self.segments.of(position),
            self.image_names[position],
            self.size(position),
        )

    def size(self, position: int) -> tuple[int, int] | None:
        """Return (h, w) of an image; None where the file lists no images."""
        height, width = self.sizes[position].tolist()
        return (height, width) if height else None
