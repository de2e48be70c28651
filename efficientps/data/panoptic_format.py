"""The COCO panoptic format: a JSON file that lists segments, and PNG files whose colours are the segments' ids.

A map's pixel belongs to the segment ``R + 256 G + 65536 B``; 0 is void. Data sets, the export of predictions and the
evaluation of folders all read and write the format through this module.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from efficientps.data.categories import Categories
from efficientps.structures import VOID

MAX_SEGMENT_ID = 256**3 - 1
"""The largest segment id that three bytes hold."""


class SegmentEntry(NamedTuple):
    """One element of ``segments_info``.

    Attributes:
        id: the segment's id in the map.
        category_id: the id of its class.
        is_crowd: whether it is a region of several instances.
        area: pixels; 0 where the file does not say.
        bbox: ``(x, y, width, height)`` in pixels; written where it is given, not read.
        score: how sure a prediction is of it, in [0, 1]; written where it is given, not read.
    """

    id: int
    category_id: int
    is_crowd: bool = False
    area: int = 0
    bbox: tuple[int, int, int, int] | None = None
    score: float | None = None


class PanopticEntry(NamedTuple):
    """What the JSON file says of one image.

    Attributes:
        image_id: the image's id; numbers are written out.
        map_file_name: name of the PNG with the segment ids, relative to the folder of the maps.
        segments: one entry for each segment of the map.
        image_file_name: name of the image as the file gives it; empty if it lists no images (predictions need not).
        size: (h, w) of the image; None if the file lists no images.
    """

    image_id: str
    map_file_name: str
    segments: tuple[SegmentEntry, ...]
    image_file_name: str = ""
    size: tuple[int, int] | None = None


def rgb_to_id(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Read segment ids from colours: uint8 ``[h, w, 3]`` to int32 ``[h, w]``.

    >>> rgb_to_id(np.array([[[145, 101, 0], [0, 0, 1]]], dtype=np.uint8)).tolist()
    [[26001, 65536]]
    """
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    ids: NDArray[np.int32] = red + 256 * green + 65536 * blue
    return ids


def id_to_rgb(segment_ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Write segment ids as colours: int32 ``[h, w]`` to uint8 ``[h, w, 3]``; the inverse of ``rgb_to_id``.

    Raises:
        ValueError: if an id is negative or does not fit three bytes.
    """
    if segment_ids.size and not (segment_ids.min() >= 0 and segment_ids.max() <= MAX_SEGMENT_ID):
        raise ValueError(
            f"Segment ids must lie in 0..{MAX_SEGMENT_ID} to be written as colours, "
            f"found {segment_ids.min()}..{segment_ids.max()}."
        )
    return np.stack([segment_ids & 255, segment_ids >> 8 & 255, segment_ids >> 16], axis=-1).astype(np.uint8)


def present_ids(segment_ids: NDArray[np.int32]) -> list[int]:
    """Return the segment ids that occur in a map, ``VOID`` excepted, in increasing order.

    A table of flags takes a fifth of the time of sorting the pixels.

    >>> present_ids(np.array([[7, 0], [26001, 7]], dtype=np.int32))
    [7, 26001]
    """
    flat = segment_ids.ravel()
    seen = np.zeros(int(flat.max(initial=VOID)) + 1, dtype=bool)
    seen[flat] = True
    seen[VOID] = False
    ids: list[int] = np.flatnonzero(seen).tolist()
    return ids


def read_id_map(path: str | os.PathLike[str]) -> NDArray[np.int32]:
    """Read the segment ids int32 ``[h, w]`` of a PNG file.

    Pillow decodes, although other decoders take two thirds of its time: it alone refuses every damaged PNG (cv2
    returns what it could read, torchvision ends the process).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a whole PNG, or its pixels are not RGB triples.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("RGB", "RGBA"):
                raise ValueError(f"Panoptic map '{path}' has '{image.mode}' pixels; segment ids need RGB pixels.")
            # Pillow keeps RGB in four bytes per pixel: read as little-endian words, these are the ids.
            words = np.frombuffer(image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA"), dtype="<i4")
            size = (image.height, image.width)
    except FileNotFoundError:
        raise FileNotFoundError(f"Panoptic map '{path}' does not exist.") from None
    except UnidentifiedImageError:
        raise ValueError(f"Panoptic map '{path}' is not a PNG file.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Panoptic map '{path}' cannot be decoded ({error}); replace the file.") from None
    ids: NDArray[np.int32] = (words & MAX_SEGMENT_ID).astype(np.int32, copy=False).reshape(size)
    return ids


def write_id_map(path: str | os.PathLike[str], segment_ids: NDArray[np.int32]) -> None:
    """Write segment ids int32 ``[h, w]`` as a PNG file."""
    Image.fromarray(id_to_rgb(segment_ids)).save(path, format="PNG", compress_level=1)


def read_panoptic_json(
    path: str | os.PathLike[str], categories: Categories | None = None, *, require_images: bool = True
) -> list[PanopticEntry]:
    """Read the entries of a COCO panoptic JSON file, in the order of its annotations.

    Args:
        path: the JSON file.
        categories: if given, each segment's category must be in the table, and the classes that the file names must
            have the names of the table.
        require_images: whether each annotation needs an entry in ``images`` (predictions do without).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not JSON or not of the format, an image id occurs twice, a category is unknown, or
            (with ``require_images``) an image has no annotation or an annotation no image.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"Annotation file '{path}' does not exist.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Annotation file '{path}' is not valid JSON ({error}); make it again.") from None
    if categories is not None:
        _check_category_names(path, document, categories)
    images = _read_images(path, document, require_images)
    entries: list[PanopticEntry] = []
    seen: set[str] = set()
    for annotation in _list(path, document, "annotations"):
        entry = _read_annotation(path, annotation, categories)
        if entry.image_id in seen:
            raise ValueError(f"Annotation file '{path}' has the image id '{entry.image_id}' twice.")
        seen.add(entry.image_id)
        if entry.image_id in images:
            file_name, size = images[entry.image_id]
            entry = entry._replace(image_file_name=file_name, size=size)
        elif require_images:
            raise ValueError(f"Annotation file '{path}' has no entry in 'images' for the image id '{entry.image_id}'.")
        entries.append(entry)
    if require_images and (missing := images.keys() - seen):
        raise ValueError(f"Annotation file '{path}' has no annotation for the image id '{min(missing)}'.")
    return entries


def write_panoptic_json(path: str | os.PathLike[str], entries: Iterable[PanopticEntry], categories: Categories) -> None:
    """Write entries as a COCO panoptic JSON file; the file appears whole or not at all."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for entry in entries:
        if entry.size is not None:
            height, width = entry.size
            image = {"id": entry.image_id, "file_name": entry.image_file_name, "height": height, "width": width}
            images.append(image)
        segments = [_segment_info(item) for item in entry.segments]
        annotation = {"image_id": entry.image_id, "file_name": entry.map_file_name, "segments_info": segments}
        annotations.append(annotation)
    table = [
        {"id": item.label_id, "name": item.name, "color": list(item.color), "isthing": int(item.is_thing)}
        for item in categories
    ]
    temporary = Path(f"{os.fspath(path)}.{uuid.uuid4().hex}.partial")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"images": images, "annotations": annotations, "categories": table}, file)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _segment_info(segment: SegmentEntry) -> dict[str, Any]:
    """Return a segment as ``segments_info`` has it; what is not known is left out."""
    info: dict[str, Any] = {"id": segment.id, "category_id": segment.category_id, "iscrowd": int(segment.is_crowd)}
    info["area"] = segment.area
    if segment.bbox is not None:
        info["bbox"] = list(segment.bbox)
    if segment.score is not None:
        info["score"] = segment.score
    return info


def _check_category_names(path: str | os.PathLike[str], document: Any, categories: Categories) -> None:
    """Refuse a file whose classes have other names: it was written with other ids (train ids, for instance)."""
    names = {category.label_id: category.name for category in categories}
    for item in _list(path, document, "categories", required=False):
        label_id, name = _field(path, item, "id", int), _field(path, item, "name", str)
        if names.get(label_id, name) != name:
            raise ValueError(
                f"Annotation file '{path}' calls category {label_id} '{name}' where the table of classes says "
                f"'{names[label_id]}'; it was made with other category ids."
            )


def _read_images(path: str | os.PathLike[str], document: Any, required: bool) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return file name and (h, w) of each image by its id."""
    images: dict[str, tuple[str, tuple[int, int]]] = {}
    for item in _list(path, document, "images", required=required):
        image_id = str(_field(path, item, "id", (str, int)))
        if image_id in images:
            raise ValueError(f"Annotation file '{path}' has the image id '{image_id}' twice.")
        size = (_field(path, item, "height", int), _field(path, item, "width", int))
        images[image_id] = (_field(path, item, "file_name", str), size)
    return images


def _read_annotation(path: str | os.PathLike[str], annotation: Any, categories: Categories | None) -> PanopticEntry:
    """Read one annotation without its image."""
    image_id = str(_field(path, annotation, "image_id", (str, int)))
    segments: dict[int, SegmentEntry] = {}
    for item in _list(path, annotation, "segments_info"):
        segment_id = _field(path, item, "id", int)
        category_id = _field(path, item, "category_id", int)
        if not VOID < segment_id <= MAX_SEGMENT_ID:
            raise ValueError(
                f"Annotation file '{path}' gives image '{image_id}' a segment with id {segment_id}; "
                f"ids lie in 1..{MAX_SEGMENT_ID}."
            )
        if segment_id in segments:
            raise ValueError(f"Annotation file '{path}' gives image '{image_id}' the segment id {segment_id} twice.")
        if categories is not None:
            try:
                categories.train_id(category_id)
            except ValueError as error:
                raise ValueError(f"Annotation file '{path}', image '{image_id}': {error}") from None
        area = item.get("area", 0)
        is_crowd = item.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            raise ValueError(
                f"Annotation file '{path}' gives segment {segment_id} of image '{image_id}' iscrowd = {is_crowd!r}; "
                "it is 0 or 1."
            )
        area = int(area) if isinstance(area, (int, float)) else 0
        segments[segment_id] = SegmentEntry(segment_id, category_id, bool(is_crowd), area)
    return PanopticEntry(image_id, _field(path, annotation, "file_name", str), tuple(segments.values()))


def _list(path: str | os.PathLike[str], parent: Any, key: str, *, required: bool = True) -> list[Any]:
    """Return the list under a key of a JSON object."""
    value = parent.get(key, None if required else []) if isinstance(parent, dict) else None
    if not isinstance(value, list):
        raise ValueError(f"Annotation file '{path}' has no list '{key}' where the COCO panoptic format has one.")
    return value


def _field(path: str | os.PathLike[str], parent: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    """Return the value under a key of a JSON object, of the type that the format gives it."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(
            f"Annotation file '{path}' has {value!r} as '{key}' of an entry, which the COCO panoptic format forbids."
        )
    return value
