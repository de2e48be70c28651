"""Entries of a data set, which are known before an image is read, and the result of reading one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class SegmentEntry(NamedTuple):
    """One segment of an image, as annotations list it.

    Attributes:
        id: the segment's id in the map, from 1.
        category_id: the id of its class (``Category.label_id``).
        is_crowd: whether it is a region of several instances.
        area: number of pixels; 0 if it is not known.
        bbox: ``(x, y, width, height)`` in pixels; exports write it if it is given, and training does not read it.
        score: confidence of a predicted segment, in [0, 1]; exports write it if it is given.
    """

    id: int
    category_id: int
    is_crowd: bool = False
    area: int = 0
    bbox: tuple[int, int, int, int] | None = None
    score: float | None = None


class Entry(NamedTuple):
    """One image of a data set.

    Attributes:
        image_id: names the image in predictions and in a cache; no two of a data set are equal.
        files: the files that the sample is read from, the image first and the map last. Messages name them, and a
            cache compares their sizes and times of change.
        segments: the segments of its map; None if they are known only after the map was read.
        size: (h, w) of the image; None if it is not known before the image is read.
        image_name: the image's own name, with the folders below that of the data set; empty stands for the name of its
            file.
    """

    image_id: str
    files: tuple[str, ...]
    segments: tuple[SegmentEntry, ...] | None = None
    size: tuple[int, int] | None = None
    image_name: str = ""

    @property
    def file_name(self) -> str:
        """The name that exports give for the image."""
        return self.image_name or os.path.basename(self.files[0])


class Reading(NamedTuple):
    """One image and its map, as they are stored.

    Attributes:
        image: uint8 ``[3, h, w]``, RGB.
        segment_ids: int32 ``[h, w]``, the segment of each pixel; 0 is void.
        segments: one for each id that occurs in the map, void excepted.
    """

    image: Tensor
    segment_ids: Tensor
    segments: Sequence[SegmentEntry]
