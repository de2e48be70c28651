"""Check the segments that a COCO panoptic file lists, without its maps."""

from __future__ import annotations

import numpy as np

from efficientps.data.formats.annotation_file import AnnotationFile
from efficientps.data.tools.report import DatasetReport
from efficientps.structures.categories import Categories


def check_segments(file: AnnotationFile, categories: Categories, report: DatasetReport) -> set[int]:
    """Add what is wrong with the classes and crowd flags of segments to a report; return the faulty rows of the table.

    Args:
        file: the annotations.
        categories: the table of classes.
        report: gets the problems and remarks.
    """
    segments, image_ids = file.table.segments, file.table.image_ids
    names = {category.label_id: category.name for category in categories}
    stuff_ids = [category.label_id for category in categories if not category.is_thing]
    rows = np.repeat(np.arange(len(image_ids)), np.diff(segments.offsets))
    unknown = np.flatnonzero(~np.isin(segments.category_ids, list(names))).tolist()
    for position in unknown:
        report.problems.add(
            f"Annotation file '{file.path}' gives segment {segments.ids[position]} of image "
            f"'{image_ids[rows[position]]}' the category {segments.category_ids[position]}, which is not in "
            "'categories'."
        )
    is_stuff = np.isin(segments.category_ids, stuff_ids)
    for position in np.flatnonzero(is_stuff & segments.crowds).tolist():
        report.remarks.add(
            f"Annotation file '{file.path}' calls segment {segments.ids[position]} of image "
            f"'{image_ids[rows[position]]}' a crowd, but '{names[int(segments.category_ids[position])]}' is stuff."
        )
    pairs = np.stack([rows[is_stuff], segments.category_ids[is_stuff]], axis=1)
    different, counts = np.unique(pairs, axis=0, return_counts=True)
    for (row, label_id), times in zip(different[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        report.remarks.add(
            f"Annotation file '{file.path}' has {times} segments of the stuff class '{names[label_id]}' in image "
            f"'{image_ids[row]}'; the format has one, and panoptic quality counts each."
        )
    return set(rows[unknown].tolist())
