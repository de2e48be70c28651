"""The JSON file of the COCO panoptic format, which lists the segments of each image.

Data sets, tools and the evaluation of folders all read the format through this module. A file is untrusted: types,
ranges and names are checked here, so that no caller needs to check them again.
"""

from __future__ import annotations

import json
import math
import os
import stat
import unicodedata
from collections import Counter
from typing import Any, NamedTuple

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.id_map import MAX_SEGMENT_ID
from efficientps.data.formats.image_file import MAX_SIDE
from efficientps.data.formats.safe_path import MAX_NAME, inside, shortened
from efficientps.structures import VOID
from efficientps.structures.categories import Categories

MAX_JSON_BYTES = 2**31
"""Largest size of a JSON file."""

MAX_NUMBER = 2**63 - 1
_MAX_IMAGE_ID = 200
"""Largest number of characters of an image id: ids become file names, which have 255 bytes on most disks."""


class PanopticEntry(NamedTuple):
    """Entry of one image in the JSON file.

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


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read an annotation file by the JSON standard.

    Python's own reader also accepts NaN, infinities, numbers out of the range of a float, and objects with a repeated
    name; these are errors here.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no regular file, larger than ``MAX_JSON_BYTES``, or not JSON.
        OSError: if disk, network or rights keep the file from being read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ValueError(f"Annotation file '{path}' is not a regular file.")
        if status.st_size > MAX_JSON_BYTES:
            raise ValueError(
                f"Annotation file '{path}' has {status.st_size} bytes where at most {MAX_JSON_BYTES} are read; "
                "split it."
            )
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"Annotation file '{path}' does not exist.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"Annotation file '{path}' is not valid JSON ({error}); make it again.") from None
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite_number, object_pairs_hook=_object_without_doubles
        )
    except (ValueError, RecursionError) as error:
        reason = "too many levels" if isinstance(error, RecursionError) else error
        raise ValueError(f"Annotation file '{path}' is not valid JSON ({reason}); make it again.") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shortened(text)} is out of range")
    return value


def _object_without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        double, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object has the name {shortened(double)} twice")
    return found


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
        ValueError: if the file is not JSON or not of the format, a number is out of range, an image id occurs twice or
            cannot be part of a file name, the name of a map leads out of its folder, a category is unknown, or (with
            ``require_images``) an image has no annotation or an annotation no image. The message names file and place.
        OSError: if disk, network or rights keep the file from being read.
    """
    document = read_json(path)
    if categories is not None:
        _check_category_names(path, document, categories)
    images = _read_images(path, document, require_images)
    entries: list[PanopticEntry] = []
    seen: set[str] = set()
    for number, annotation in enumerate(_list(path, document, "annotations")):
        entry = read_annotation(path, annotation, f"annotations[{number}].", categories)
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


def _check_category_names(path: str | os.PathLike[str], document: Any, categories: Categories) -> None:
    """Refuse a file whose classes have other names or kinds: it was made with other ids (train ids, for instance)."""
    names = {category.label_id: category.name for category in categories}
    things = {category.label_id for category in categories if category.is_thing}
    for number, item in enumerate(_list(path, document, "categories", required=False)):
        place = f"categories[{number}]."
        label_id, name = _number(path, item, "id", place, least=None), _name(path, item, "name", place)
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


def _read_images(path: str | os.PathLike[str], document: Any, required: bool) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return file name and (h, w) of each image by its id."""
    images: dict[str, tuple[str, tuple[int, int]]] = {}
    for number, item in enumerate(_list(path, document, "images", required=required)):
        image_id, file_name, size = read_image_entry(path, item, f"images[{number}].")
        if image_id in images:
            raise ValueError(f"Annotation file '{path}' has the image id '{image_id}' twice.")
        images[image_id] = (file_name, size)
    return images


def read_image_entry(path: str | os.PathLike[str], item: Any, place: str) -> tuple[str, str, tuple[int, int]]:
    """Return id, file name and (h, w) of an element of ``images``.

    Args:
        path: the file, for messages.
        item: the element.
        place: where it lies in the file, for messages: ``images[3].``.

    Raises:
        ValueError: if it is not of the format.
    """
    image_id = _image_id(path, item, "id", place)
    height = _number(path, item, "height", place, least=1, most=MAX_SIDE)
    width = _number(path, item, "width", place, least=1, most=MAX_SIDE)
    return image_id, _name(path, item, "file_name", place), (height, width)


def read_annotation(
    path: str | os.PathLike[str], annotation: Any, place: str, categories: Categories | None
) -> PanopticEntry:
    """Return what an element of ``annotations`` says, without its image; as ``read_image_entry`` otherwise."""
    image_id = _image_id(path, annotation, "image_id", place)
    segments: dict[int, SegmentEntry] = {}
    for number, item in enumerate(_list(path, annotation, "segments_info", place)):
        here = f"{place}segments_info[{number}]."
        segment_id = _number(path, item, "id", here, least=VOID + 1, most=MAX_SEGMENT_ID)
        category_id = _number(path, item, "category_id", here, least=None)
        if segment_id in segments:
            raise ValueError(f"Annotation file '{path}' gives image '{image_id}' the segment id {segment_id} twice.")
        if categories is not None:
            try:
                categories.train_id(category_id)
            except ValueError as error:
                raise ValueError(f"Annotation file '{path}', image '{image_id}': {error}") from None
        is_crowd = item.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            raise ValueError(
                f"Annotation file '{path}' gives segment {segment_id} of image '{image_id}' "
                f"iscrowd = {shortened(is_crowd)}; it is 0 or 1."
            )
        area = item.get("area")
        if area is not None and (not isinstance(area, (int, float)) or isinstance(area, bool)):
            raise _forbidden(path, area, f"{here}area")
        if area is not None and not 0 <= area <= MAX_NUMBER:
            raise _out_of_range(path, area, f"{here}area", 0, MAX_NUMBER)
        segments[segment_id] = SegmentEntry(segment_id, category_id, bool(is_crowd), int(area or 0))
    map_file_name = _name(path, annotation, "file_name", place)
    inside("the folder of the maps", map_file_name, path)
    return PanopticEntry(image_id, map_file_name, tuple(segments.values()))


def _list(path: str | os.PathLike[str], parent: Any, key: str, place: str = "", *, required: bool = True) -> list[Any]:
    """Return the list under a key of a JSON object, which lies at a place of the file."""
    value = parent.get(key, None if required else []) if isinstance(parent, dict) else None
    if not isinstance(value, list):
        raise ValueError(f"Annotation file '{path}' has no list '{place}{key}' where the COCO panoptic format has one.")
    return value


def _number(
    path: str | os.PathLike[str], parent: Any, key: str, place: str, *, least: int | None, most: int = MAX_NUMBER
) -> int:
    """Return the integer under a key of a JSON object; without a least one, any that 64 bits hold."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _forbidden(path, value, f"{place}{key}")
    least = -MAX_NUMBER if least is None else least
    if not least <= value <= most:
        raise _out_of_range(path, value, f"{place}{key}", least, most)
    return value


def _name(path: str | os.PathLike[str], parent: Any, key: str, place: str) -> str:
    """Return the text under a key of a JSON object."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise _forbidden(path, value, f"{place}{key}")
    return value


def _image_id(path: str | os.PathLike[str], parent: Any, key: str, place: str) -> str:
    """Return the image id under a key of a JSON object; pictures and predictions are named after it."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if isinstance(value, int):
        return str(_number(path, parent, key, place, least=0))
    if not isinstance(value, str):
        raise _forbidden(path, value, f"{place}{key}")
    letters = value[: _MAX_IMAGE_ID + 1]
    if (
        value in ("", ".", "..")
        or len(value) > _MAX_IMAGE_ID
        or any(letter in "/\\" or unicodedata.category(letter) in ("Cc", "Cs") for letter in letters)
    ):
        raise ValueError(
            f"Annotation file '{path}' has the image id {shortened(value)} as '{place}{key}'; it must be fit for the "
            f"name of a file, of at most {_MAX_IMAGE_ID} characters."
        )
    return value


def _forbidden(path: str | os.PathLike[str], value: Any, place: str) -> ValueError:
    return ValueError(
        f"Annotation file '{path}' has {shortened(value)} as '{place}', which the COCO panoptic format forbids."
    )


def _out_of_range(path: str | os.PathLike[str], value: float, place: str, least: int, most: int) -> ValueError:
    return ValueError(f"Annotation file '{path}' has {shortened(value)} as '{place}'; it must lie in {least}..{most}.")
