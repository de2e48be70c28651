"""Convert COCO instance annotations, with an optional semantic map for the background, to COCO panoptic annotations.

Instances may overlap, and segments may not: where instances overlap, a rule decides which one is visible.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from efficientps.data.formats.coco_categories import distinct_color
from efficientps.data.formats.coco_json import PanopticEntry, read_image_entry, read_json
from efficientps.data.formats.coco_segmentation import decode_segmentation
from efficientps.data.formats.export import write_panoptic_json
from efficientps.data.formats.id_map import write_id_map
from efficientps.data.formats.image_file import MAX_PIXELS, UnusableImageError, open_image
from efficientps.data.formats.safe_path import inside
from efficientps.data.tools.overlap import Instance, Overlap, paint_instances
from efficientps.structures.categories import Category

PathLike: TypeAlias = str | os.PathLike[str]

_STUFF_COLOR = (110, 110, 110)


class Conversion(NamedTuple):
    """Result for one image: number of segments written, and of annotations without a visible pixel."""

    entry: PanopticEntry
    hidden: int


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
        semantic_root: folder of the semantic maps of the background, ``<name of the image>.png``.
        stuff_file: JSON whose ``categories`` are the further classes of these maps.
        void: value of the maps that means void; 0 always means void.
        background: name of a further class for all pixels without another class; without it they are void.
        overlap: which of two overlapping instances is visible, see ``paint_instances``.

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
