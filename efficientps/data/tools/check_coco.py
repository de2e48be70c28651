"""Check a whole data set in the COCO panoptic format for faults that would stop a training.

``check_dataset`` checks data sets of any format. Here each field of the JSON file is checked as well, and every fault
of a file is listed, whereas reading stops at the first one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from efficientps.data.formats.annotation_file import AnnotationFile, read_annotation_file
from efficientps.data.formats.coco_categories import categories_of
from efficientps.data.formats.image_file import MAX_PIXELS, check_grey_range
from efficientps.data.formats.safe_path import inside
from efficientps.data.grey_values import GreyValues, remark_on_range
from efficientps.data.hidden_files import is_hidden
from efficientps.data.tools.check_files import FileCheck, RowCheck
from efficientps.data.tools.check_segments import check_segments
from efficientps.data.tools.in_order import in_order
from efficientps.data.tools.report import ClassCounts, DatasetReport

PathLike = str | os.PathLike[str]

_PART = 16
"""Images that a process checks before it sends what it found."""


def check_coco_panoptic(
    annotation_file: PathLike | AnnotationFile,
    map_root: PathLike,
    image_root: PathLike,
    *,
    upright: bool = False,
    max_pixels: int = MAX_PIXELS,
    grey_range: tuple[int, int] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Read the annotations, and every image and map in full.

    Args:
        annotation_file: COCO panoptic JSON: its path, or its content if it was read already.
        map_root: folder of the PNG files with segment ids.
        image_root: folder that the file names of the images are relative to.
        upright: whether images are turned as their EXIF orientation says, as ``CocoPanopticDataModule`` has it.
        max_pixels: larger images and maps are problems.
        grey_range: the values of 16-bit grey images that become black and white, as the data module has it.
        workers: number of processes that read files, as ``in_order`` has it; 1 reads them in this one.
        progress: called with (images done, images in all).

    Raises:
        FileNotFoundError: if the annotation file or a folder does not exist.
        ValueError: if the file is no JSON, or lacks one of its three lists: nothing more can be said then.
        BrokenExecutor: if a process that reads files was killed.
    """
    check_grey_range(grey_range)
    file = annotation_file if isinstance(annotation_file, AnnotationFile) else read_annotation_file(annotation_file)
    categories = categories_of(file.head, file.path)
    file.require("images", "annotations")
    for folder in (map_root, image_root):
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"Folder '{folder}' does not exist.")
    report = DatasetReport()
    rows = _good_rows(file, image_root, report)
    bad = check_segments(file, categories, report) & set(rows)
    counts = ClassCounts(categories)
    look = FileCheck(
        map_root=str(Path(map_root)),
        image_root=str(Path(image_root)),
        upright=upright,
        max_pixels=max_pixels,
        category_ids=frozenset(category.label_id for category in categories),
    )
    check = RowCheck(look=look, table=file.table, categories=categories, bad_rows=frozenset(bad))
    parts = [rows[first : first + _PART] for first in range(0, len(rows), _PART)]
    grey: list[GreyValues] = []
    done = 0
    with closing(in_order(check, parts, workers=workers)) as results:
        for part, found in zip(parts, results, strict=True):
            report.problems.extend(found.problems)
            report.remarks.extend(found.remarks)
            report.void += found.void
            report.area += found.area
            counts.amounts += found.counts
            bad.update(found.bad_rows)
            grey += found.grey
            done += len(part)
            if progress is not None:
                progress(done, len(rows))
    report.images, report.bad_images = len(rows), len(bad)
    report.classes = counts.result()
    if not report.images:
        report.problems.add(f"Annotation file '{file.path}' holds no image.")
    report.remark_on_classes()
    if remark := remark_on_range(grey, grey_range=grey_range):
        report.remarks.add(remark)
    report.remarks.extend(_unused(map_root, {*file.table.map_names, *file.faulty_maps}, "Map"))
    return report


def _good_rows(file: AnnotationFile, image_root: PathLike, report: DatasetReport) -> list[int]:
    """Return the rows of the images that have their two files; note all that is wrong with elements and their names."""
    table, path = file.table, file.path
    report.problems.extend(file.faults)
    for name, times in Counter(map(os.path.normpath, file.image_names)).items():
        if times > 1:
            report.problems.add(f"Annotation file '{path}' names the image '{name}' {times} times, under other ids.")
    report.problems.extend(file.disagreements)
    rows: list[int] = []
    users: dict[str, int] = {}
    for row, (image_name, map_name) in enumerate(zip(table.image_names, table.map_names, strict=True)):
        if table.size(row) is None:
            continue
        try:
            inside(image_root, image_name, path)
        except ValueError as error:
            report.problems.add(error)
            continue
        first = users.setdefault(os.path.normpath(map_name), row)
        if first != row:
            report.problems.add(
                f"Annotation file '{path}' gives the images '{table.image_ids[first]}' and '{table.image_ids[row]}' "
                f"the same map '{map_name}'."
            )
        rows.append(row)
    return rows


def _unused(root: PathLike, used: set[str], noun: str) -> list[str]:
    """Return a remark about the PNG files of a folder that no annotation names, if there are any."""
    files: set[str] = set()
    for folder, _, names in os.walk(root):
        below = os.path.relpath(folder, root)
        prefix = "" if below == os.curdir else below + os.sep
        files.update(prefix + name for name in names if name.lower().endswith(".png"))
    unused = sorted(name for name in files - set(map(os.path.normpath, used)) if not is_hidden(name))
    if not unused:
        return []
    return [f"{noun}s that no annotation names: {len(unused)}, the first is '{Path(root, unused[0])}'."]
