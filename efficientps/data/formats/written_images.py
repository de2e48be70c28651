"""What several processes have written so far, in files that each of them can read when another one has failed."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.export import WrittenImage
from efficientps.data.formats.instance_export import InstanceEntry

_NAME = "written_by_{}.partial"


class WrittenImages:
    """A list of written images that the processes of a prediction share, as one file of each in their folder.

    A file has one line of JSON for each image. A line that has no end, of a process that was killed, is not read.
    """

    def __init__(self, folder: str | os.PathLike[str], rank: int, world_size: int) -> None:
        """Begin the file of this process.

        Args:
            folder: the folder, which exists.
            rank: number of this process.
            world_size: how many there are.
        """
        self._files = [Path(folder, _NAME.format(number)) for number in range(world_size)]
        self._path = self._files[rank]
        self._own = self._path.open("w", encoding="utf-8")

    @staticmethod
    def remove_all(folder: str | os.PathLike[str]) -> None:
        """Remove the files of an earlier prediction into the folder; no process may have begun the present one."""
        for path in Path(folder).glob(_NAME.format("*")):
            with suppress(OSError):
                path.unlink()

    def append(self, image: WrittenImage) -> None:
        """Add an image of this process."""
        self._own.write(json.dumps(image) + "\n")
        self._own.flush()

    def read(self) -> list[WrittenImage]:
        """Return the images of all processes so far."""
        images: list[WrittenImage] = []
        for path in self._files:
            with suppress(FileNotFoundError):
                lines = path.read_text(encoding="utf-8").split("\n")
                images += [_image(json.loads(line)) for line in lines[:-1]]
        return images

    def close(self, *, remove: bool) -> None:
        """End the file of this process; remove it once all images are in a JSON file."""
        self._own.close()
        if remove:
            self._path.unlink(missing_ok=True)


def _image(fields: Any) -> WrittenImage:
    """Return an image from the lists that JSON makes of its tuples."""
    (image_id, map_file_name, segments, file_name, size), instances = fields
    entry = PanopticEntry(
        image_id,
        map_file_name,
        tuple(SegmentEntry(*_with_box(item)) for item in segments),
        file_name,
        None if size is None else (size[0], size[1]),
    )
    return WrittenImage(entry, tuple(InstanceEntry(*_with_box(item)) for item in instances))


def _with_box(fields: list[Any]) -> tuple[Any, ...]:
    """Return the fields of a segment or an instance, whose last but one is a box."""
    *others, box, score = fields
    return (*others, tuple(box), score)
