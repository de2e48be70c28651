"""Check the images and the maps of entries of a COCO panoptic file."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.annotation_table import AnnotationTable, PanopticEntry
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.formats.image_file import exif_orientation, image_size, open_image
from efficientps.data.grey_values import GreyValues, grey_values, has_deep_pixels
from efficientps.data.map_mistakes import mistake_of
from efficientps.data.problems import Problem
from efficientps.data.tools.report import ClassCounts
from efficientps.structures import VOID
from efficientps.structures.categories import Categories
from efficientps.structures.segment_runs import areas_of


@dataclass
class Findings:
    """Findings in the two files of one image.

    Attributes:
        problems: faults of the files.
        remarks: what is allowed but probably a mistake.
        areas: number of pixels by segment id.
        grey: the values of an image with 16 bits per channel.
        void: number of pixels that belong to no segment.
    """

    problems: list[Problem | str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    areas: dict[int, int] = field(default_factory=dict)
    grey: GreyValues | None = None
    void: int = 0


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """How the files of an entry are checked.

    Attributes:
        map_root: folder of the maps.
        image_root: folder of the images.
        upright: whether images are turned as their EXIF orientation says.
        max_pixels: larger images and maps are problems.
        category_ids: ids of the classes.
    """

    map_root: str
    image_root: str
    upright: bool
    max_pixels: int
    category_ids: Collection[int]

    def __call__(self, entry: PanopticEntry) -> Findings:
        """Read image and map of an entry, and compare them with it."""
        assert entry.size is not None
        found = Findings()
        try:
            self._check_image(os.path.join(self.image_root, entry.image_file_name), entry.size, found)
        except (OSError, ValueError) as error:
            found.problems.append(str(error))
        map_file = os.path.join(self.map_root, entry.map_file_name)
        try:
            segment_ids = read_id_map(map_file, max_pixels=self.max_pixels)
        except (OSError, ValueError) as error:
            found.problems.append(str(error))
            return found
        if segment_ids.shape != entry.size:
            found.problems.append(
                f"Panoptic map '{map_file}' is {segment_ids.shape[0]}x{segment_ids.shape[1]} pixels (height x width) "
                f"where its annotation says {entry.size[0]}x{entry.size[1]}."
            )
        found.areas = areas_of(segment_ids)
        found.void = found.areas.pop(VOID, 0)
        self._compare_ids(entry, map_file, found)
        if not found.areas and not found.problems:
            found.remarks.append(f"Panoptic map '{map_file}' is void everywhere.")
        found.remarks += [
            f"The area of segment {segment.id} of image '{entry.image_id}' is {segment.area} in the annotation file "
            f"and {found.areas[segment.id]} in the map."
            for segment in entry.segments
            if _states_another_area(segment, found.areas)
        ]
        return found

    def _compare_ids(self, entry: PanopticEntry, map_file: str, found: Findings) -> None:
        """Note which segments only the map has, and which only the annotation; or the mistake that explains all."""
        listed = {segment.id for segment in entry.segments}
        present = found.areas.keys()
        if listed == present:
            return
        if (mistake := mistake_of(present, listed, self.category_ids)) is not None:
            where = (
                f"Panoptic map '{map_file}' ({len(present)} ids, {len(listed)} segments of image '{entry.image_id}')"
            )
            found.problems.append(Problem(mistake.kind, where, mistake.remedy, text=f"{where} {mistake.kind}."))
            return
        for segment_id in sorted(present - listed):
            found.problems.append(
                f"Panoptic map '{map_file}' has {found.areas[segment_id]} pixels of segment {segment_id}, which the "
                f"annotation file does not list for image '{entry.image_id}'."
            )
        for segment_id in sorted(listed - present):
            found.problems.append(
                f"Panoptic map '{map_file}' has no pixel of segment {segment_id}, which the annotation file lists for "
                f"image '{entry.image_id}'."
            )

    def _check_image(self, path: str, size: tuple[int, int], found: Findings) -> None:
        """Decode an image, and compare its size with its annotation's."""
        with open_image(path, max_pixels=self.max_pixels) as image:
            if image.mode == "F":
                found.problems.append(
                    f"Image '{path}' has floating-point pixels; convert it to 8 or 16 bits per channel."
                )
            here = image_size(image, upright=self.upright)
            if here != size:
                other = image_size(image, upright=not self.upright)
                hint = f"; with upright={not self.upright} it has that size" if other == size else ""
                found.problems.append(
                    f"Image '{path}' is {here[0]}x{here[1]} pixels (height x width) where its annotation says "
                    f"{size[0]}x{size[1]}{hint}."
                )
            elif (orientation := exif_orientation(image)) != 1:
                how = "turned so" if self.upright else "taken as it is stored"
                found.remarks.append(f"Image '{path}' has the EXIF orientation {orientation} and is {how}.")
            deep = has_deep_pixels(image)
            image.load()
        if deep:
            found.grey = grey_values(path)


@dataclass
class RowFindings:
    """Findings in the files of several rows of a table, small enough to be sent between processes.

    Attributes:
        problems: faults of the files.
        remarks: what is allowed but probably a mistake.
        bad_rows: rows with a fault.
        grey: the values of the images with 16 bits per channel.
        counts: int64 ``[classes, 4]``, what the rows without a fault hold, as ``ClassCounts`` has it.
        void: number of pixels of these rows that belong to no segment.
        area: number of pixels of these rows.
    """

    problems: list[Problem | str]
    remarks: list[str]
    bad_rows: list[int]
    grey: list[GreyValues]
    counts: NDArray[np.int64]
    void: int
    area: int


@dataclass(frozen=True, kw_only=True)
class RowCheck:
    """How the files of several rows of a table are checked.

    Attributes:
        look: the check of one entry.
        table: the entries.
        categories: the classes.
        bad_rows: rows whose annotation is faulty; they are checked, but not counted.
    """

    look: FileCheck
    table: AnnotationTable
    categories: Categories
    bad_rows: Collection[int]

    def __call__(self, rows: Sequence[int]) -> RowFindings:
        """Read the images and maps of some rows."""
        counts = ClassCounts(self.categories)
        found = RowFindings([], [], [], [], counts.amounts, 0, 0)
        for row in rows:
            entry = self.table[row]
            of_row = self.look(entry)
            found.problems += of_row.problems
            found.remarks += of_row.remarks
            found.grey += [of_row.grey] if of_row.grey is not None else []
            if of_row.problems:
                found.bad_rows.append(row)
            elif row not in self.bad_rows:
                counts.add(entry.segments, of_row.areas)
                found.void += of_row.void
                found.area += of_row.void + sum(of_row.areas.values())
        return found


def _states_another_area(segment: SegmentEntry, areas: dict[int, int]) -> bool:
    return bool(segment.area) and segment.id in areas and areas[segment.id] != segment.area
