"""The entries of a large data set, in arrays that loading processes share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efficientps.data.entries import Entry
from efficientps.data.formats.annotation_table import SegmentTable
from efficientps.data.formats.packed_sequence import PackedSequence
from efficientps.data.formats.packed_text import PackedText
from efficientps.data.formats.safe_path import inside


@dataclass(frozen=True, eq=False)
class EntryTable(PackedSequence[Entry]):
    """Images with their maps and segments; an entry is made when it is asked for.

    Loading processes that are forked off read the same memory, because arrays count no uses; those that are spawned
    get a copy of the arrays, without an object for each segment.

    Attributes:
        source: the file that names images and maps, for messages.
        image_root: folder of the images.
        map_root: folder of the maps.
        image_ids: id of each image.
        image_names: name of each image file, relative to its folder, with "/" between its parts.
        map_names: name of each map, in the same way.
        sizes: int32 ``[images, 2]``, (h, w) of each image.
        segments: the segments of each image.
    """

    source: str
    image_root: str
    map_root: str
    image_ids: PackedText
    image_names: PackedText
    map_names: PackedText
    sizes: NDArray[np.int32]
    segments: SegmentTable

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.image_ids)

    def at(self, position: int) -> Entry:
        """Make the entry of an image."""
        image_name = self.image_names[position]
        height, width = self.sizes[position].tolist()
        return Entry(
            image_id=self.image_ids[position],
            files=(
                inside(self.image_root, image_name, self.source),
                inside(self.map_root, self.map_names[position], self.source),
            ),
            segments=self.segments.of(position),
            size=(height, width),
            image_name=image_name,
        )
