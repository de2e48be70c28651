"""Export of predicted instances as COCO instance JSON, with masks as compressed run lengths."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from efficientps.atomic_file import atomic_file
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.panoptic_json import image_info, written_id
from efficientps.data.formats.segment_measures import Box
from efficientps.structures import Segment
from efficientps.structures.categories import Categories
from efficientps.structures.run_length import RunLengths, encode_segments

InstanceFormat: TypeAlias = Literal["annotations", "results"]
"""A whole document with images, annotations and categories, as annotation tools read it; or the list of results that
evaluations of COCO read (``COCO.loadRes``)."""

INSTANCE_FILES: dict[InstanceFormat, str] = {"annotations": "instances.json", "results": "instance_results.json"}
"""Name of the file of each format."""


class InstanceEntry(NamedTuple):
    """One predicted instance.

    Attributes:
        image_id: of its image.
        category_id: the id of its class (``Category.label_id``).
        segmentation: its mask.
        area: number of pixels.
        bbox: ``(x, y, width, height)`` in pixels.
        score: confidence, in [0, 1].
    """

    image_id: str
    category_id: int
    segmentation: RunLengths
    area: int
    bbox: Box
    score: float


def instances_of(
    image_id: str,
    segment_ids: NDArray[np.int32],
    segments: Sequence[Segment],
    measures: tuple[Sequence[int], Sequence[Box]],
    categories: Categories,
) -> tuple[InstanceEntry, ...]:
    """Return the instances of a panoptic map: its segments of things that are no crowds.

    Args:
        image_id: id of the image.
        segment_ids: the map, int32 ``[h, w]``.
        segments: its segments.
        measures: area and box of each.
        categories: the classes.
    """
    masks = encode_segments(segment_ids)
    return tuple(
        InstanceEntry(
            image_id=image_id,
            category_id=categories[segment.train_id].label_id,
            segmentation=masks[segment.id],
            area=area,
            bbox=box,
            score=float(segment.score),
        )
        for segment, area, box in zip(segments, *measures, strict=True)
        if segment.is_thing and not segment.is_crowd
    )


def write_instances_json(
    path: str | os.PathLike[str],
    written_as: InstanceFormat,
    images: Iterable[PanopticEntry],
    instances: Iterable[InstanceEntry],
    categories: Categories,
    *,
    text_ids: Collection[str] = (),
) -> None:
    """Write instances as a COCO JSON; the file appears whole or not at all.

    Tools for COCO instances take integers as image ids. If an id is none, a document numbers its images from 1, and
    their names say which they are. A list of results keeps the ids, which are those of the ground truth, and has no
    boxes: with boxes, ``COCO.loadRes`` takes their areas for those of the masks.

    Args:
        path: the file.
        written_as: its format.
        images: the images of the instances, also those without any.
        instances: the instances.
        categories: the classes; those of things are listed.
        text_ids: image ids that stay text even if they are plain numbers.
    """
    images = list(images)
    ids = {entry.image_id: written_id(entry.image_id, text_ids) for entry in images}
    if written_as == "annotations" and not all(isinstance(image_id, int) for image_id in ids.values()):
        ids = {image_id: number for number, image_id in enumerate(ids, start=1)}
    numbers = count(1)
    found: list[dict[str, Any]] = []
    for item in instances:
        info: dict[str, Any] = {
            "image_id": ids[item.image_id],
            "category_id": item.category_id,
            "segmentation": item.segmentation,
            "score": item.score,
        }
        if written_as == "annotations":
            info |= {"id": next(numbers), "area": item.area, "bbox": list(item.bbox), "iscrowd": 0}
        found.append(info)
    document: Any = found
    if written_as == "annotations":
        things = [{"id": item.label_id, "name": item.name} for item in categories if item.is_thing]
        listed = [{**image_info(entry), "id": ids[entry.image_id]} for entry in images]
        document = {"images": listed, "annotations": found, "categories": things}
    with atomic_file(path, concurrent=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file)
