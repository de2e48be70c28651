"""Convert COCO instance annotations, with an optional semantic map for the background, to COCO panoptic annotations.

Instances may overlap, and segments may not: where instances overlap, ``overlap`` decides which one is visible.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from efficientps.data.formats.coco_categories import distinct_color
from efficientps.data.formats.export import measure_segments
from efficientps.data.formats.image_file import MAX_PIXELS, UnusableImageError, open_image
from efficientps.data.formats.panoptic_format import (
    PanopticEntry,
    SegmentEntry,
    inside,
    read_image_entry,
    read_json,
    write_id_map,
    write_panoptic_json,
)
from efficientps.structures import VOID
from efficientps.structures.categories import Category

PathLike: TypeAlias = str | os.PathLike[str]
Overlap: TypeAlias = Literal["smaller", "later"]
Mask: TypeAlias = NDArray[np.bool_]

_STUFF_COLOR = (110, 110, 110)


class Instance(NamedTuple):
    """One annotation of an image: its class, its mask bool ``[h, w]``, and whether it is a region of several."""

    category_id: int
    mask: Mask
    is_crowd: bool


class Conversion(NamedTuple):
    """What became of one image: segments written, and annotations of which no pixel is left."""

    entry: PanopticEntry
    hidden: int


def paint_instances(
    size: tuple[int, int],
    instances: Sequence[Instance],
    *,
    overlap: Overlap = "smaller",
    things: frozenset[int],
    behind: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int32], list[SegmentEntry]]:
    """Paint instances over each other and over what is behind them, every pixel once.

    From the back: what is behind; regions of classes without instances and crowds; then the instances, the one on top
    last. "smaller" puts the smaller mask on top (a helmet on a worker); "later" the later annotation. Among equals the
    later annotation is on top.

    Args:
        size: (h, w).
        instances: the annotations in the order of the file.
        overlap: the rule.
        things: ids of the classes with instances; all annotations of another class become one segment.
        behind: int64 ``[h, w]``, class of each pixel where no instance is; 0 or less where void. Pixels of a thing
            class become a crowd region of that class, because nobody knows how many there are.

    Returns:
        The map int32 ``[h, w]``, ids from 1, and its segments; annotations without a visible pixel have none.

    >>> worker = Instance(1, np.array([[True, True, True, False]]), False)
    >>> helmet = Instance(2, np.array([[False, True, False, False]]), False)
    >>> ids, segments = paint_instances(
    ...     (1, 4), [helmet, worker], things=frozenset({1, 2}), behind=np.full((1, 4), 9)
    ... )
    >>> ids.tolist(), [(segment.id, segment.category_id) for segment in segments]
    ([[2, 3, 2, 1]], [(1, 9), (2, 1), (3, 2)])
    """
    segment_ids = np.full(size, VOID, dtype=np.int32)
    classes: list[tuple[int, bool]] = []  # of each segment: its class, and whether it is a crowd
    shared: dict[int, int] = {}

    def claim(category_id: int, *, crowd: bool) -> int:
        """Return the id of a new segment."""
        classes.append((category_id, crowd))
        return len(classes)

    def region(category_id: int) -> int:
        """Return the id of the one segment of a class that is not counted."""
        if category_id not in shared:
            shared[category_id] = claim(category_id, crowd=category_id in things)
        return shared[category_id]

    if behind is not None:
        for category_id in np.unique(behind[behind > 0]).tolist():
            segment_ids[behind == category_id] = region(category_id)
    counted: list[Instance] = []
    for instance in instances:
        if instance.is_crowd or instance.category_id not in things:
            segment_ids[instance.mask] = region(instance.category_id)
        else:
            counted.append(instance)
    if overlap == "smaller":
        counted.sort(key=lambda instance: -int(instance.mask.sum()))
    for instance in counted:
        segment_ids[instance.mask] = claim(instance.category_id, crowd=False)
    return _numbered(segment_ids, classes)


def _numbered(
    segment_ids: NDArray[np.int32], classes: Sequence[tuple[int, bool]]
) -> tuple[NDArray[np.int32], list[SegmentEntry]]:
    """Number the segments that can be seen from 1, and measure them."""
    visible = [segment_id for segment_id in np.unique(segment_ids).tolist() if segment_id != VOID]
    index, areas, boxes = measure_segments(segment_ids, visible)
    entries = [
        SegmentEntry(number, classes[segment_id - 1][0], classes[segment_id - 1][1], area, box)
        for number, (segment_id, area, box) in enumerate(zip(visible, areas, boxes, strict=True), start=1)
    ]
    return index.astype(np.int32), entries


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> Mask:
    """Decode the ``segmentation`` of a COCO annotation: polygons, or run lengths as numbers or as text.

    pycocotools fills polygons; it reads run lengths without looking at their sum, which is therefore compared before.

    Args:
        segmentation: as the JSON file has it.
        size: (h, w) of the image.

    Raises:
        ValueError: if it is neither, or does not fit the image. The sentence goes on after the annotation's name.
    """
    height, width = size
    if isinstance(segmentation, list):
        _check_polygons(segmentation)
        parts = coco_mask.frPyObjects(segmentation, height, width)
        return np.asarray(coco_mask.decode(coco_mask.merge(parts)), dtype=np.bool_)
    if not isinstance(segmentation, dict):
        raise ValueError("has a 'segmentation' that is neither a list of polygons nor run lengths")
    if segmentation.get("size") != [height, width]:
        raise ValueError(
            f"has run lengths for the size {segmentation.get('size')!r:.40} where the image has {[height, width]}"
        )
    counts = segmentation.get("counts")
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    if (
        not isinstance(runs, list)
        or not all(type(run) is int and run >= 0 for run in runs)
        or sum(runs) != height * width
    ):
        raise ValueError(f"has run lengths that do not add up to the {height * width} pixels of the image")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _check_polygons(polygons: list[Any]) -> None:
    """Refuse what pycocotools would misread."""
    if not polygons:
        raise ValueError("has an empty list of polygons")
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and abs(value) < 1e6
            for value in polygon
        )
        if not numbers or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("has a polygon that is not a list of x, y, x, y, ... of three or more points")


def _uncompressed(text: str) -> list[int] | None:
    """Return the run lengths that a text holds, None if it is damaged.

    Each letter has six bits, of which one says that more follow; from the third run on, a run is written as its
    difference to the one before the last (pycocotools:common/maskApi.c, rleFrString).

    >>> _uncompressed("52203")
    [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs


def read_semantic_map(path: PathLike, size: tuple[int, int], void: int) -> NDArray[np.int64]:
    """Read a grey or palette PNG whose values are category ids; the void value becomes 0.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another size, or has colours.
    """
    with open_image(path, noun="Semantic map", formats=("PNG",)) as image:
        if image.mode not in ("L", "P") and not image.mode.startswith("I"):
            raise UnusableImageError(
                f"Semantic map '{path}' has '{image.mode}' pixels; one number for each pixel is read."
            )
        if (image.height, image.width) != size:
            raise UnusableImageError(
                f"Semantic map '{path}' is {image.height}x{image.width} pixels (height x width) where its image is "
                f"{size[0]}x{size[1]}."
            )
        values = np.array(image).astype(np.int64)
    values[values == void] = 0
    return values


def convert_instances(
    instances_file: PathLike,
    output: Path,
    *,
    semantic_root: PathLike | None = None,
    stuff_file: PathLike | None = None,
    void: int = 255,
    background: str | None = None,
    overlap: Overlap = "smaller",
) -> Iterator[Conversion]:
    """Write ``output/panoptic.json`` and ``output/panoptic/*.png``, image by image.

    Classes of the instance file are things, unless they say ``isthing: 0``.

    Args:
        instances_file: COCO instance JSON.
        output: folder of the result; is created.
        semantic_root: folder of the maps of what is behind the instances, ``<name of the image>.png``.
        stuff_file: JSON whose ``categories`` are the further classes of these maps.
        void: value of the maps that means nothing; 0 does so as well.
        background: name of one more class, for every pixel that nothing else has; void without it.
        overlap: who is on top, see ``paint_instances``.

    Yields:
        What became of each image, after its map is written; the JSON follows the last one.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged or not of the format, or ``output`` holds a result already.
    """
    json_file = output / "panoptic.json"
    if json_file.exists():
        raise ValueError(f"'{json_file}' exists already; choose another folder, or delete it.")
    document = read_json(instances_file)
    categories = _read_categories(instances_file, document)
    if stuff_file is not None:
        categories += _read_categories(stuff_file, read_json(stuff_file), is_thing=False)
    largest = max((category.label_id for category in categories), default=0)
    if background is not None:
        categories.append(Category(largest + 1, background, _STUFF_COLOR, is_thing=False))
    known = {category.label_id: category for category in categories}
    if len(known) < len(categories) or len({category.name for category in categories}) < len(categories):
        raise ValueError(f"Two of the classes of '{instances_file}' and what was added have one id or one name.")
    images = _read_images(instances_file, document)
    of_image = _annotations_of_images(instances_file, document, images, known)
    things = frozenset(category.label_id for category in categories if category.is_thing)
    (output / "panoptic").mkdir(parents=True, exist_ok=True)
    entries = []
    for image_id, (file_name, size) in images.items():
        instances = [_instance(instances_file, annotation, size) for annotation in of_image[image_id]]
        behind = np.zeros(size, dtype=np.int64)
        if semantic_root is not None:
            map_file = Path(inside(semantic_root, file_name, instances_file)).with_suffix(".png")
            behind = read_semantic_map(map_file, size, void)
            if unknown := set(np.unique(behind).tolist()) - {0} - known.keys():
                raise ValueError(
                    f"Semantic map '{map_file}' has pixels of the class {min(unknown)}, which no file names."
                )
        if background is not None:
            behind[behind <= 0] = largest + 1
        segment_ids, segments = paint_instances(size, instances, overlap=overlap, things=things, behind=behind)
        map_name = f"{image_id}.png"
        write_id_map(output / "panoptic" / map_name, segment_ids)
        entries.append(PanopticEntry(image_id, map_name, tuple(segments), file_name, size))
        shown = sum(segment.category_id in things and not segment.is_crowd for segment in segments)
        counted = sum(instance.category_id in things and not instance.is_crowd for instance in instances)
        yield Conversion(entries[-1], hidden=counted - shown)
    write_panoptic_json(json_file, entries, categories)


def _read_categories(path: PathLike, document: Any, *, is_thing: bool | None = None) -> list[Category]:
    """Return the classes of an instance file; without ``isthing``, as files of detection data sets, all are things."""
    items = document.get("categories") if isinstance(document, dict) else None
    if not isinstance(items, list) or not all(
        isinstance(item, dict) and type(item.get("id")) is int and item["id"] > 0 and isinstance(item.get("name"), str)
        for item in items
    ):
        raise ValueError(
            f"Annotation file '{path}' has no list 'categories' whose entries say 'id' (from 1) and 'name'."
        )
    return [
        Category(
            item["id"],
            item["name"],
            distinct_color(number),
            bool(item.get("isthing", 1)) if is_thing is None else is_thing,
        )
        for number, item in enumerate(items)
    ]


def _read_images(path: PathLike, document: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, int]]]:
    items = document.get("images")
    if not isinstance(items, list) or not items:
        raise ValueError(f"Annotation file '{path}' has no image in a list 'images'.")
    images: dict[str, tuple[str, tuple[int, int]]] = {}
    for number, item in enumerate(items):
        image_id, file_name, size = read_image_entry(path, item, f"images[{number}].")
        if image_id in images:
            raise ValueError(f"Annotation file '{path}' has the image id '{image_id}' twice.")
        if size[0] * size[1] > MAX_PIXELS:
            raise ValueError(
                f"Annotation file '{path}' says that image '{image_id}' is {size[0]}x{size[1]} pixels, where "
                f"{MAX_PIXELS} in all are read; cut it into tiles."
            )
        images[image_id] = (file_name, size)
    return images


def _annotations_of_images(
    path: PathLike, document: Mapping[str, Any], images: Mapping[str, object], known: Mapping[int, Category]
) -> dict[str, list[dict[str, Any]]]:
    """Deal the annotations to their images."""
    items = document.get("annotations")
    if not isinstance(items, list):
        raise ValueError(f"Annotation file '{path}' has no list 'annotations'.")
    dealt: dict[str, list[dict[str, Any]]] = {image_id: [] for image_id in images}
    for number, item in enumerate(items):
        if not isinstance(item, dict) or str(item.get("image_id")) not in dealt:
            raise ValueError(f"Annotation file '{path}': annotations[{number}] is of no image of the file.")
        if item.get("category_id") not in known:
            raise ValueError(
                f"Annotation file '{path}': annotations[{number}] is of the category {item.get('category_id')!r:.40}, "
                "which is not in 'categories'."
            )
        dealt[str(item["image_id"])].append({**item, "place": number})
    return dealt


def _instance(path: PathLike, annotation: dict[str, Any], size: tuple[int, int]) -> Instance:
    try:
        mask = decode_segmentation(annotation.get("segmentation"), size)
    except ValueError as error:
        raise ValueError(
            f"Annotation file '{path}': annotations[{annotation['place']}] of image '{annotation['image_id']}' {error}."
        ) from None
    return Instance(annotation["category_id"], mask, annotation.get("iscrowd") == 1)
