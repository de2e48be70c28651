"""Export of predictions in the COCO panoptic format, as panopticapi, cityscapesscripts and detectron2 read it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Sequence
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from efficientps.atomic_file import atomic_file
from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.id_map import MAX_SEGMENT_ID, write_id_stripes
from efficientps.data.formats.instance_export import (
    INSTANCE_FILES,
    InstanceEntry,
    InstanceFormat,
    instances_of,
    write_instances_json,
)
from efficientps.data.formats.panoptic_json import write_panoptic_json
from efficientps.data.formats.segment_measures import areas_and_boxes, renumbered
from efficientps.structures import VOID, PanopticSegmentation, Segment
from efficientps.structures.categories import Categories

INSTANCES_PER_CLASS = 1000
"""Distance of the ids of one class's instances from those of the next (Cityscapes)."""


class WrittenImage(NamedTuple):
    """What JSON files say about an image whose map is written.

    Attributes:
        entry: the image and its segments.
        instances: its instances, where they are exported as such.
    """

    entry: PanopticEntry
    instances: tuple[InstanceEntry, ...] = ()


class PanopticWriter:
    """Writes one PNG per image as it comes, and the JSON file at the end; used in a ``with`` statement.

    ``directory/panoptic/<image_id>_panoptic.png`` holds the ids, ``directory/panoptic.json`` the segments. The JSON
    file appears when the ``with`` statement ends without an error, whole or not at all; every PNG does so as well.

    Args:
        directory: where to write; made if it does not exist.
        categories: the classes, whose label ids the files will name.
        instances: if given, the instances are written as a COCO instance JSON of this format, too.
        text_ids: image ids that stay text in the JSON files even if they are plain numbers.

    Raises:
        ValueError: if the directory cannot be written to, or there is no such format.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        categories: Categories,
        *,
        instances: InstanceFormat | None = None,
        text_ids: Collection[str] = (),
    ) -> None:
        """Make the directory."""
        if instances is not None and instances not in INSTANCE_FILES:
            raise ValueError(f"instances is {instances!r}; give {' or '.join(map(repr, INSTANCE_FILES))}, or nothing.")
        self.instances = instances
        self.json_path = Path(directory) / "panoptic.json"
        self.map_directory = Path(directory) / "panoptic"
        self._categories, self._text_ids = categories, text_ids
        self._written: dict[str, WrittenImage] = {}
        try:
            self.map_directory.mkdir(parents=True, exist_ok=True)
            probe = self.map_directory / f"{uuid.uuid4().hex}.partial"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise self._refusal(error) from None

    def __enter__(self) -> PanopticWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write the JSON file, unless an error ends the statement."""
        if kind is None:
            self.close()

    @property
    def entries(self) -> list[PanopticEntry]:
        """Entries written so far, in the order of writing."""
        return [image.entry for image in self._written.values()]

    @property
    def written(self) -> list[WrittenImage]:
        """What was written so far, in the order of writing."""
        return list(self._written.values())

    def write(self, image_id: str, panoptic: PanopticSegmentation, *, image_file_name: str | None = None) -> Path:
        """Write the panoptic map of one image; return the path of its PNG.

        Args:
            image_id: id of the image in the JSON files; part of the PNG's name.
            panoptic: the map, int32 ``[h, w]`` on any device, at the size of the image file.
            image_file_name: name that the JSON file gives for the image; ``<image_id>.png`` if not given.

        Raises:
            ValueError: if the image id occurs twice or is no file name, map and segments do not fit each other, or
                the file cannot be written.
        """
        if image_id in self._written:
            raise ValueError(f"Image id '{image_id}' is written twice to '{self.json_path}'; ids must be unique.")
        if not image_id or Path(image_id).name != image_id:
            raise ValueError(f"Image id '{image_id}' cannot be part of a file name.")
        segment_ids = panoptic.segment_ids.cpu().numpy()
        ids = [segment.id for segment in panoptic.segments]
        areas, boxes = areas_and_boxes(segment_ids, ids)
        file_ids = export_ids(panoptic.segments, self._categories)
        path = self.map_directory / f"{image_id}_panoptic.png"
        size = (segment_ids.shape[0], segment_ids.shape[1])
        try:
            with atomic_file(path, concurrent=True) as temporary:
                write_id_stripes(temporary, renumbered(segment_ids, ids, file_ids), size)
        except OSError as error:
            raise self._refusal(error) from None
        segments = tuple(
            SegmentEntry(
                id=file_id,
                category_id=self._categories[segment.train_id].label_id,
                is_crowd=segment.is_crowd,
                area=area,
                bbox=box,
                score=float(segment.score),
            )
            for segment, file_id, area, box in zip(panoptic.segments, file_ids, areas, boxes, strict=True)
        )
        file_name = image_file_name or f"{image_id}.png"
        entry = PanopticEntry(image_id, path.name, segments, file_name, size)
        instances: tuple[InstanceEntry, ...] = ()
        if self.instances is not None:
            instances = instances_of(image_id, segment_ids, panoptic.segments, (areas, boxes), self._categories)
        self._written[image_id] = WrittenImage(entry, instances)
        return path

    def close(self, images: Sequence[WrittenImage] | None = None) -> None:
        """Write the JSON files.

        Args:
            images: what they say; by default all images that this writer has written.

        Raises:
            ValueError: if one cannot be written.
        """
        images = self.written if images is None else images
        entries = [image.entry for image in images]
        try:
            write_panoptic_json(self.json_path, entries, self._categories, text_ids=self._text_ids)
            if self.instances is not None:
                path = self.json_path.with_name(INSTANCE_FILES[self.instances])
                found = [instance for image in images for instance in image.instances]
                write_instances_json(path, self.instances, entries, found, self._categories, text_ids=self._text_ids)
        except OSError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: OSError) -> ValueError:
        """Say that the directory cannot be written to, and what to do."""
        return ValueError(
            f"Cannot write predictions to '{self.json_path.parent}' ({error.strerror}); "
            "choose a folder that you may write to, on a disk with free space."
        )


def export_ids(segments: Sequence[Segment], categories: Categories) -> list[int]:
    """Return the id of each segment in a file, after the custom of Cityscapes; all different, none of them void.

    A stuff segment or a crowd region has the label id of its class; an instance has 1000 times the label id plus a
    running number. Where an id is taken (a second segment of one stuff class), the next free number is taken. Where the
    label ids of a table are too large for that, the segments of each image are numbered from 1.

    >>> from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
    >>> car = CITYSCAPES_CATEGORIES.train_id(26)
    >>> export_ids([Segment(1, 0, False), Segment(2, car, True), Segment(3, car, True)], CITYSCAPES_CATEGORIES)
    [7, 26000, 26001]
    """
    if (max(category.label_id for category in categories) + 1) * INSTANCES_PER_CLASS > MAX_SEGMENT_ID:
        return list(range(1, len(segments) + 1))
    used = {VOID}
    ids: list[int] = []
    for segment in segments:
        label_id = categories[segment.train_id].label_id
        running = count(INSTANCES_PER_CLASS * label_id)
        candidates = running if segment.is_thing and not segment.is_crowd else chain([label_id], running)
        ids.append(next(candidate for candidate in candidates if candidate not in used))
        used.add(ids[-1])
    return ids
