"""Writing of the JSON file of the COCO panoptic format."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from typing import Any

from efficientps.atomic_file import atomic_file
from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.coco_fields import MAX_NUMBER
from efficientps.structures.categories import Category


def write_panoptic_json(
    path: str | os.PathLike[str],
    entries: Iterable[PanopticEntry],
    categories: Iterable[Category],
    *,
    text_ids: Collection[str] = (),
) -> None:
    """Write entries as a COCO panoptic JSON file; the file appears whole or not at all.

    Image ids that are plain numbers are written as numbers, as COCO's own are, so that other readers find each image.

    Args:
        path: the file.
        entries: the images.
        categories: the classes.
        text_ids: image ids that stay text even if they are plain numbers.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for entry in entries:
        if entry.size is not None:
            images.append(image_info(entry, text_ids))
        segments = [_segment_info(item) for item in entry.segments]
        annotation = {
            "image_id": written_id(entry.image_id, text_ids),
            "file_name": entry.map_file_name,
            "segments_info": segments,
        }
        annotations.append(annotation)
    table = [
        {"id": item.label_id, "name": item.name, "color": list(item.color), "isthing": int(item.is_thing)}
        for item in categories
    ]
    with atomic_file(path, concurrent=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump({"images": images, "annotations": annotations, "categories": table}, file)


def image_info(entry: PanopticEntry, text_ids: Collection[str] = ()) -> dict[str, Any]:
    """Return an image as the list ``images`` has it; its size must be known."""
    assert entry.size is not None
    height, width = entry.size
    image_id = written_id(entry.image_id, text_ids)
    return {"id": image_id, "file_name": entry.image_file_name, "height": height, "width": width}


def written_id(image_id: str, text_ids: Collection[str] = ()) -> str | int:
    """Return an image id as JSON files have it; those among ``text_ids`` stay text.

    >>> written_id("139"), written_id("0139"), written_id("aachen_000000_000019")
    (139, '0139', 'aachen_000000_000019')
    """
    if image_id in text_ids:
        return image_id
    is_number = image_id.isdecimal() and image_id.isascii() and str(int(image_id[:20])) == image_id
    return int(image_id) if is_number and int(image_id) <= MAX_NUMBER else image_id


def _segment_info(segment: SegmentEntry) -> dict[str, Any]:
    """Return a segment as ``segments_info`` has it; what is not known is left out."""
    info: dict[str, Any] = {"id": segment.id, "category_id": segment.category_id, "iscrowd": int(segment.is_crowd)}
    info["area"] = segment.area
    if segment.bbox is not None:
        info["bbox"] = list(segment.bbox)
    if segment.score is not None:
        info["score"] = segment.score
    return info
