"""The fields of one element of a COCO panoptic file, checked one by one for their types and ranges."""

from __future__ import annotations

import difflib
import os
import unicodedata
from typing import Any

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.id_map import MAX_SEGMENT_ID
from efficientps.data.formats.image_file import MAX_SIDE
from efficientps.data.formats.safe_path import MAX_NAME, inside, shortened
from efficientps.structures import VOID

MAX_NUMBER = 2**63 - 1
_MAX_IMAGE_ID = 200
"""Largest number of characters of an image id: ids become file names, which have 255 bytes on most disks."""


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


def read_annotation(path: str | os.PathLike[str], annotation: Any, place: str) -> PanopticEntry:
    """Return what an element of ``annotations`` says, without its image; as ``read_image_entry`` otherwise."""
    image_id = _image_id(path, annotation, "image_id", place)
    segments: dict[int, SegmentEntry] = {}
    for number, item in enumerate(list_under(path, annotation, "segments_info", place)):
        here = f"{place}segments_info[{number}]."
        segment_id = _number(path, item, "id", here, least=VOID + 1, most=MAX_SEGMENT_ID)
        category_id = _number(path, item, "category_id", here, least=None)
        if segment_id in segments:
            raise ValueError(f"Annotation file '{path}' gives image '{image_id}' the segment id {segment_id} twice.")
        is_crowd = item.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            raise ValueError(
                f"Annotation file '{path}' gives segment {segment_id} of image '{image_id}' "
                f"iscrowd = {shortened(is_crowd)}; it is 0 or 1."
            )
        area = item.get("area")
        if area is not None and (not isinstance(area, (int, float)) or isinstance(area, bool)):
            raise _fault(path, item, "area", here)
        if area is not None and not 0 <= area <= MAX_NUMBER:
            raise _out_of_range(path, area, f"{here}area", 0, MAX_NUMBER)
        segments[segment_id] = SegmentEntry(segment_id, category_id, bool(is_crowd), int(area or 0))
    map_file_name = _name(path, annotation, "file_name", place)
    inside("the folder of the maps", map_file_name, path)
    return PanopticEntry(image_id, map_file_name, tuple(segments.values()))


def read_class(path: str | os.PathLike[str], item: Any, place: str) -> tuple[int, str]:
    """Return id and name of an element of ``categories``; as ``read_image_entry`` otherwise."""
    return _number(path, item, "id", place, least=None), _name(path, item, "name", place)


def list_under(path: str | os.PathLike[str], parent: Any, key: str, place: str = "") -> list[Any]:
    """Return the list under a key of a JSON object, which lies at a place of the file.

    Raises:
        ValueError: if there is none.
    """
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, list):
        raise ValueError(
            f"Annotation file '{path}' has no list '{place}{key}' where the COCO panoptic format has one"
            f"{near_key(parent, key)}."
        )
    return value


def near_key(parent: Any, key: str) -> str:
    """Return a hint at a key of an object that may be meant."""
    names = [name for name in parent if isinstance(name, str)][:100] if isinstance(parent, dict) else []
    plain = {name.lower().replace("_", "").replace("-", ""): name for name in names if len(name) <= MAX_NAME}
    close = difflib.get_close_matches(key.replace("_", ""), [name[:40] for name in plain], n=1, cutoff=0.75)
    return f"; it has {shortened(plain[close[0]])}" if close and close[0] in plain and key not in names else ""


def _number(
    path: str | os.PathLike[str], parent: Any, key: str, place: str, *, least: int | None, most: int = MAX_NUMBER
) -> int:
    """Return the integer under a key of a JSON object; without a least one, any that 64 bits hold."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _fault(path, parent, key, place)
    least = -MAX_NUMBER if least is None else least
    if not least <= value <= most:
        raise _out_of_range(path, value, f"{place}{key}", least, most)
    return value


def _name(path: str | os.PathLike[str], parent: Any, key: str, place: str) -> str:
    """Return the text under a key of a JSON object."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise _fault(path, parent, key, place)
    return value


def _image_id(path: str | os.PathLike[str], parent: Any, key: str, place: str) -> str:
    """Return the image id under a key of a JSON object; pictures and predictions are named after it."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if isinstance(value, int):
        return str(_number(path, parent, key, place, least=0))
    if not isinstance(value, str):
        raise _fault(path, parent, key, place)
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


def _fault(path: str | os.PathLike[str], parent: Any, key: str, place: str) -> ValueError:
    """Return the error about a value under a key: there is none, or it is of another type."""
    if not isinstance(parent, dict):
        where = place.removesuffix(".")
        return ValueError(
            f"Annotation file '{path}' has {shortened(parent)} as '{where}', where the COCO panoptic format has an "
            "object."
        )
    if key not in parent:
        return ValueError(f"Annotation file '{path}' has no '{place}{key}'{near_key(parent, key)}.")
    return ValueError(
        f"Annotation file '{path}' has {shortened(parent[key])} as '{place}{key}', which the COCO panoptic format "
        "forbids."
    )


def _out_of_range(path: str | os.PathLike[str], value: float, place: str, least: int, most: int) -> ValueError:
    return ValueError(f"Annotation file '{path}' has {shortened(value)} as '{place}'; it must lie in {least}..{most}.")
