"""The JSON file of the COCO panoptic format, which lists the segments of each image.

Data sets and the evaluation of folders read the format through this module. A file is untrusted: types, ranges and
names are checked here, so that no caller needs to check them again.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from efficientps.data.formats.annotation_file import AnnotationFile, read_annotation_file
from efficientps.data.formats.annotation_table import AnnotationTable
from efficientps.data.formats.coco_fields import list_under, read_class
from efficientps.data.formats.safe_path import shortened
from efficientps.structures.categories import Categories


def read_panoptic_json(
    path: str | os.PathLike[str], categories: Categories | None = None, *, require_images: bool = True
) -> AnnotationTable:
    """Read the entries of a COCO panoptic JSON file, in the order of its annotations.

    Args:
        path: the JSON file.
        categories: if given, each segment's category must be in the table, and the classes that the file names must
            have the names of the table.
        require_images: whether each annotation needs an entry in ``images`` (predictions do without).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not JSON or not of the format, a number is out of range, an image id occurs twice or
            cannot be part of a file name, the name of a map leads out of its folder, a category is unknown, or (with
            ``require_images``) an image has no annotation or an annotation no image. The message names file and place.
        OSError: if disk, network or rights keep the file from being read.
    """
    return entries_of(read_annotation_file(path), categories, require_images=require_images)


def entries_of(
    file: AnnotationFile, categories: Categories | None = None, *, require_images: bool = True
) -> AnnotationTable:
    """Return the entries of a file that is read already, as ``read_panoptic_json`` does.

    Raises:
        ValueError: as ``read_panoptic_json``, the first fault alone.
    """
    if categories is not None:
        _check_category_names(file.path, file.head, categories)
    file.require(*(("images",) if require_images else ()), "annotations")
    for fault in (*file.faults, *(file.disagreements if require_images else ())):
        raise ValueError(fault)
    if categories is not None:
        segments = file.table.segments
        unknown = ~np.isin(segments.category_ids, [category.label_id for category in categories])
        if unknown.any():
            position = int(unknown.argmax())
            image_id = file.table.image_ids[segments.image_of(position)]
            try:
                categories.train_id(int(segments.category_ids[position]))
            except ValueError as error:
                raise ValueError(f"Annotation file '{file.path}', image '{image_id}': {error}") from None
    return file.table


def _check_category_names(path: str | os.PathLike[str], head: Any, categories: Categories) -> None:
    """Refuse a file whose classes have other names or kinds: it was made with other ids (train ids, for instance)."""
    names = {category.label_id: category.name for category in categories}
    things = {category.label_id for category in categories if category.is_thing}
    items = head.get("categories", []) if isinstance(head, dict) else None
    for number, item in enumerate(items if items == [] else list_under(path, head, "categories")):
        place = f"categories[{number}]."
        label_id, name = read_class(path, item, place)
        if names.get(label_id, name) != name:
            raise ValueError(
                f"Annotation file '{path}' calls category {label_id} {shortened(name)} where the table of classes "
                f"says '{names[label_id]}'; it was made with other category ids."
            )
        if label_id in names and bool(item.get("isthing", label_id in things)) != (label_id in things):
            kind = "a thing" if label_id in things else "stuff"
            raise ValueError(
                f"Annotation file '{path}' has {shortened(item['isthing'])} as '{place}isthing' where category "
                f"{label_id} is {kind} in the table of classes; all files of a data set must agree."
            )
