"""Check a whole data set in the COCO panoptic format for faults that would stop a training.

``check_dataset`` checks data sets of any format. Here each field of the JSON file is checked as well, and every fault
of a file is listed, whereas reading stops at the first one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.coco_categories import categories_of
from efficientps.data.formats.coco_json import PanopticEntry, read_annotation, read_image_entry, read_json
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.formats.image_file import MAX_PIXELS, check_grey_range, exif_orientation, image_size, open_image
from efficientps.data.formats.safe_path import inside
from efficientps.data.grey_values import GreyValues, grey_values, remark_on_range
from efficientps.data.hidden_files import is_hidden
from efficientps.data.tools.report import ClassCounts, DatasetReport
from efficientps.structures import VOID
from efficientps.structures.categories import Categories
from efficientps.structures.segment_runs import areas_of

PathLike = str | os.PathLike[str]


@dataclass
class _Found:
    """Findings in the two files of one image."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    areas: dict[int, int] = field(default_factory=dict)  # by segment id
    grey: GreyValues | None = None
    void: int = 0


def check_coco_panoptic(
    annotation_file: PathLike,
    map_root: PathLike,
    image_root: PathLike,
    *,
    upright: bool = False,
    max_pixels: int = MAX_PIXELS,
    grey_range: tuple[int, int] | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read the annotations, and every image and map in full.

    Args:
        annotation_file: COCO panoptic JSON.
        map_root: folder of the PNG files with segment ids.
        image_root: folder that the file names of the images are relative to.
        upright: whether images are turned as their EXIF orientation says, as ``CocoPanopticDataModule`` has it.
        max_pixels: larger images and maps are problems.
        grey_range: the values of 16-bit grey images that become black and white, as the data module has it.
        threads: how many files are read at a time; by default one for each core.
        progress: called with (images done, images in all).

    Raises:
        FileNotFoundError: if the annotation file or a folder does not exist.
        ValueError: if the file is no JSON, or lacks one of its three lists: nothing more can be said then.
    """
    check_grey_range(grey_range)
    document = read_json(annotation_file)
    categories = categories_of(document, annotation_file)
    for folder in (map_root, image_root):
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"Folder '{folder}' does not exist.")
    report = DatasetReport()
    entries = list(_entries(document, annotation_file, map_root, image_root, categories, report))
    bad = {entry.image_id for entry, faulty in entries if faulty}
    counts = ClassCounts(categories)

    def look(item: tuple[PanopticEntry, bool]) -> _Found:
        return _check_files(item[0], map_root, image_root, upright, max_pixels)

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        grey: list[GreyValues] = []
        for done, ((entry, _), found) in enumerate(zip(entries, pool.map(look, entries), strict=True), start=1):
            report.problems.extend(found.problems)
            report.remarks.extend(found.remarks)
            grey += [found.grey] if found.grey is not None else []
            if found.problems:
                bad.add(entry.image_id)
            elif entry.image_id not in bad:
                counts.add(entry.segments, found.areas)
                report.count(found.areas | {VOID: found.void})
            if progress is not None:
                progress(done, len(entries))
    report.images, report.bad_images = len(entries), len(bad)
    report.classes = counts.result()
    report.remarks.extend(f"Class '{count.name}' has no segment." for count in report.classes if not count.segments)
    if remark := remark_on_range(grey, grey_range=grey_range):
        report.remarks.add(remark)
    report.remarks.extend(_unused(map_root, {entry.map_file_name for entry, _ in entries}, "Map"))
    return report


def _entries(
    document: Any,
    path: PathLike,
    map_root: PathLike,
    image_root: PathLike,
    categories: Categories,
    report: DatasetReport,
) -> Iterator[tuple[PanopticEntry, bool]]:
    """Yield each image that has its two files, and whether its annotation is faulty; note all that is wrong."""
    for key in ("images", "annotations"):
        if not isinstance(document.get(key), list):
            raise ValueError(f"Annotation file '{path}' has no list '{key}' where the COCO panoptic format has one.")
    images: dict[str, tuple[str, tuple[int, int]]] = {}
    for number, item in enumerate(document["images"]):
        try:
            image_id, file_name, size = read_image_entry(path, item, f"images[{number}].")
            inside(image_root, file_name, path)
        except ValueError as error:
            report.problems.add(str(error))
            continue
        if image_id in images:
            report.problems.add(f"Annotation file '{path}' has the image id '{image_id}' twice in 'images'.")
        images[image_id] = (file_name, size)
    for name, times in Counter(os.path.normpath(name) for name, _ in images.values()).items():
        if times > 1:
            report.problems.add(f"Annotation file '{path}' names the image '{name}' {times} times, under other ids.")
    seen: set[str] = set()
    users: dict[str, str] = {}
    for number, item in enumerate(document["annotations"]):
        try:
            entry = read_annotation(path, item, f"annotations[{number}].", None)
        except ValueError as error:
            report.problems.add(str(error))
            if isinstance(item, dict):
                seen.add(str(item.get("image_id")))
            continue
        if entry.image_id in seen:
            report.problems.add(f"Annotation file '{path}' has two annotations for the image id '{entry.image_id}'.")
            continue
        seen.add(entry.image_id)
        if entry.image_id not in images:
            report.problems.add(
                f"Annotation file '{path}' has no entry in 'images' for the image id '{entry.image_id}'."
            )
            continue
        name, size = images[entry.image_id]
        map_name = os.path.normpath(entry.map_file_name)
        if map_name in users:
            report.problems.add(
                f"Annotation file '{path}' gives the images '{users[map_name]}' and '{entry.image_id}' the same map "
                f"'{entry.map_file_name}'."
            )
        users[map_name] = entry.image_id
        problems, remarks = _check_segments(entry, path, categories)
        report.problems.extend(problems)
        report.remarks.extend(remarks)
        yield entry._replace(image_file_name=name, size=size), bool(problems)
    for image_id in images:
        if image_id not in seen:
            report.problems.add(f"Annotation file '{path}' has no annotation for the image id '{image_id}'.")


def _check_segments(entry: PanopticEntry, path: PathLike, categories: Categories) -> tuple[list[str], list[str]]:
    """Return the problems and remarks about the segments that the file lists for one image."""
    problems, remarks = [], []
    known = {category.label_id: category for category in categories}
    stuff: Counter[int] = Counter()
    for segment in entry.segments:
        category = known.get(segment.category_id)
        where = f"segment {segment.id} of image '{entry.image_id}'"
        if category is None:
            problems.append(
                f"Annotation file '{path}' gives {where} the category {segment.category_id}, which is not in "
                "'categories'."
            )
        elif not category.is_thing:
            stuff[segment.category_id] += 1
            if segment.is_crowd:
                remarks.append(f"Annotation file '{path}' calls {where} a crowd, but '{category.name}' is stuff.")
    for label_id, times in stuff.items():
        if times > 1:
            remarks.append(
                f"Annotation file '{path}' has {times} segments of the stuff class '{known[label_id].name}' in image "
                f"'{entry.image_id}'; the format has one, and panoptic quality counts each."
            )
    return problems, remarks


def _check_files(
    entry: PanopticEntry, map_root: PathLike, image_root: PathLike, upright: bool, max_pixels: int
) -> _Found:
    """Read image and map of one entry, and compare them with it."""
    assert entry.size is not None
    found = _Found()
    try:
        _check_image(Path(image_root, entry.image_file_name), entry.size, upright, max_pixels, found)
    except (OSError, ValueError) as error:
        found.problems.append(str(error))
    map_file = Path(map_root, entry.map_file_name)
    try:
        segment_ids = read_id_map(map_file, max_pixels=max_pixels)
    except (OSError, ValueError) as error:
        found.problems.append(str(error))
        return found
    if segment_ids.shape != entry.size:
        found.problems.append(
            f"Panoptic map '{map_file}' is {segment_ids.shape[0]}x{segment_ids.shape[1]} pixels (height x width) where "
            f"its annotation says {entry.size[0]}x{entry.size[1]}."
        )
    found.areas = areas_of(segment_ids)
    found.void = found.areas.pop(VOID, 0)
    listed = {segment.id: segment for segment in entry.segments}
    for segment_id in sorted(found.areas.keys() - listed.keys()):
        found.problems.append(
            f"Panoptic map '{map_file}' has {found.areas[segment_id]} pixels of segment {segment_id}, which the "
            f"annotation file does not list for image '{entry.image_id}'."
        )
    for segment_id in sorted(listed.keys() - found.areas.keys()):
        found.problems.append(
            f"Panoptic map '{map_file}' has no pixel of segment {segment_id}, which the annotation file lists for "
            f"image '{entry.image_id}'."
        )
    if not found.areas and not found.problems:
        found.remarks.append(f"Panoptic map '{map_file}' is void everywhere.")
    found.remarks += [
        f"The area of segment {segment.id} of image '{entry.image_id}' is {segment.area} in the annotation file and "
        f"{found.areas[segment.id]} in the map."
        for segment in entry.segments
        if _states_another_area(segment, found.areas)
    ]
    return found


def _states_another_area(segment: SegmentEntry, areas: dict[int, int]) -> bool:
    return bool(segment.area) and segment.id in areas and areas[segment.id] != segment.area


def _check_image(path: Path, size: tuple[int, int], upright: bool, max_pixels: int, found: _Found) -> None:
    """Decode an image, and compare its size with its annotation's."""
    with open_image(path, max_pixels=max_pixels) as image:
        if image.mode == "F":
            found.problems.append(f"Image '{path}' has floating-point pixels; convert it to 8 or 16 bits per channel.")
        here, other = image_size(image, upright=upright), image_size(image, upright=not upright)
        if here != size:
            hint = f"; with upright={not upright} it has that size" if other == size else ""
            found.problems.append(
                f"Image '{path}' is {here[0]}x{here[1]} pixels (height x width) where its annotation says "
                f"{size[0]}x{size[1]}{hint}."
            )
        elif (orientation := exif_orientation(image)) != 1:
            how = "turned so" if upright else "taken as it is stored"
            found.remarks.append(f"Image '{path}' has the EXIF orientation {orientation} and is {how}.")
        image.load()
    found.grey = grey_values(path)


def _unused(root: PathLike, used: set[str], noun: str) -> list[str]:
    """Return a remark about the PNG files of a folder that no annotation names, if there are any."""
    files = {os.path.relpath(Path(folder, name), root) for folder, _, names in os.walk(root) for name in names}
    unused = sorted(
        name
        for name in files - {os.path.normpath(name) for name in used}
        if name.lower().endswith(".png") and not is_hidden(name)
    )
    if not unused:
        return []
    return [f"{noun}s that no annotation names: {len(unused)}, the first is '{Path(root, unused[0])}'."]
