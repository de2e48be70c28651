"""Decoding of one element of a COCO panoptic file by its types.

An element that does not fit its type is looked at again, field by field, for the message that names what is wrong.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType

from efficientps.data.formats.annotation_table import PanopticEntry, SegmentTable
from efficientps.data.formats.coco_fields import MAX_NUMBER, read_annotation, read_image_entry
from efficientps.data.formats.id_map import MAX_SEGMENT_ID
from efficientps.data.formats.image_file import MAX_SIDE
from efficientps.data.formats.json_file import parse_json
from efficientps.data.formats.safe_path import is_plain_name

_PLAIN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")


class _Image(msgspec.Struct, gc=False):
    id: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | str
    file_name: str
    height: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    width: Annotated[int, Meta(ge=1, le=MAX_SIDE)]


class _Segment(msgspec.Struct, gc=False):
    id: Annotated[int, Meta(ge=1, le=MAX_SEGMENT_ID)]
    category_id: Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
    iscrowd: Annotated[int, Meta(ge=0, le=1)] | UnsetType = UNSET
    area: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | Annotated[float, Meta(ge=0, le=1e18)] | UnsetType = UNSET


class _Annotation(msgspec.Struct, gc=False):
    image_id: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] | str
    file_name: str
    segments_info: list[_Segment]


class _Id(msgspec.Struct, gc=False):
    id: int | str


_ID = msgspec.json.Decoder(_Id)
_IMAGE_NAMES = tuple((name, 1) for name in (b'"id"', b'"file_name"', b'"height"', b'"width"'))
_IMAGE, _ANNOTATION = msgspec.json.Decoder(_Image), msgspec.json.Decoder(_Annotation)


@dataclass
class Faults:
    """What is wrong with the elements of a file.

    Attributes:
        sentences: one for each fault.
        images: ids of the images with a fault in ``images``, or with two annotations.
        annotated: image ids of the faulty annotations.
        maps: names of the maps of faulty annotations.
        nameless_image: whether the id of a faulty image cannot be read.
        nameless_annotation: whether the image id of a faulty annotation cannot be read.
    """

    sentences: list[str] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    annotated: set[str] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    nameless_image: bool = False
    nameless_annotation: bool = False

    def add(self, error: Exception | str) -> None:
        """Keep the sentence of a fault."""
        self.sentences.append(str(error))


class SegmentColumns:
    """The segments of the annotations so far.

    Attributes:
        map_names: name of the map of each annotation.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.map_names: list[str] = []
        self._ends, self._ids, self._category_ids = array("q", [0]), array("i"), array("q")
        self._crowds, self._areas = array("b"), array("q")

    def append(
        self, _: str, map_name: str, ids: list[int], category_ids: list[int], crowds: list[int], areas: list[int]
    ) -> None:
        """Add what ``decode_annotation`` returns."""
        self.map_names.append(map_name)
        self._ids.extend(ids)
        self._category_ids.extend(category_ids)
        self._crowds.extend(crowds)
        self._areas.extend(areas)
        self._ends.append(len(self._ids))

    def segments(self) -> SegmentTable:
        """Return the segments as a table."""
        return SegmentTable(
            offsets=np.array(self._ends, dtype=np.int64),
            ids=np.array(self._ids, dtype=np.int32),
            category_ids=np.array(self._category_ids, dtype=np.int64),
            crowds=np.array(self._crowds, dtype=np.bool_),
            areas=np.array(self._areas, dtype=np.int64),
        )


def decode_image(
    raw: Raw, path: str | os.PathLike[str], place: str, faults: Faults
) -> tuple[str, str, tuple[int, int]] | None:
    """Return id, file name and (h, w) of an element of ``images``; None, with a fault noted, if it is not usable.

    Args:
        raw: its text.
        path: the file, for messages.
        place: where it lies in the file, for messages: ``images[3].``.
        faults: gets a fault.

    Raises:
        ValueError: if it is not JSON by the standard.
    """
    try:
        image = _IMAGE.decode(raw)
        if (image_id := _id(image.id)) is not None and _has(bytes(raw), _IMAGE_NAMES):
            if len(image.file_name) <= 1000:
                return image_id, image.file_name, (image.height, image.width)
    except (msgspec.DecodeError, RecursionError):
        pass  # what follows finds out why
    item = parse_json(bytes(raw), path)
    try:
        return read_image_entry(path, item, place)
    except ValueError as error:
        faults.add(error)
        faulty = _text_of(item, "id")
        faults.images |= {faulty} if faulty is not None else set()
        faults.nameless_image |= faulty is None
        return None


def has_text_id(raw: Raw) -> bool:
    """Return whether the id of a usable element of ``images`` is a text in the file, even if of digits alone."""
    return isinstance(_ID.decode(raw).id, str)


def decode_annotation(
    raw: Raw, path: str | os.PathLike[str], place: str, faults: Faults
) -> tuple[str, str, list[int], list[int], list[int], list[int]] | None:
    """Return image id, name of the map, and the columns of the segments; otherwise as ``decode_image``."""
    try:
        found = _ANNOTATION.decode(raw)
        segments = found.segments_info
        ids = [segment.id for segment in segments]
        crowds: list[Any] = [segment.iscrowd for segment in segments]
        areas: list[Any] = [segment.area for segment in segments]
        names = (
            (b'"image_id"', 1),
            (b'"file_name"', 1),
            (b'"segments_info"', 1),
            (b'"id"', len(ids)),
            (b'"category_id"', len(ids)),
            (b'"iscrowd"', len(ids) - crowds.count(UNSET)),
            (b'"area"', len(ids) - areas.count(UNSET)),
        )
        if (
            (image_id := _id(found.image_id)) is not None
            and is_plain_name(found.file_name)
            and len(set(ids)) == len(ids)
            and _has(bytes(raw), names)
        ):
            crowds = [0 if value is UNSET else value for value in crowds]
            areas = [0 if value is UNSET else int(value) for value in areas]
            return image_id, found.file_name, ids, [segment.category_id for segment in segments], crowds, areas
    except (msgspec.DecodeError, RecursionError):
        pass  # what follows finds out why
    item = parse_json(bytes(raw), path)
    try:
        entry: PanopticEntry = read_annotation(path, item, place)
    except ValueError as error:
        faults.add(error)
        faulty = _text_of(item, "image_id")
        faults.annotated |= {faulty} if faulty is not None else set()
        faults.nameless_annotation |= faulty is None
        if isinstance(item, dict) and isinstance(item.get("file_name"), str):
            faults.maps.add(item["file_name"])
        return None
    return (
        entry.image_id,
        entry.map_file_name,
        [segment.id for segment in entry.segments],
        [segment.category_id for segment in entry.segments],
        [int(segment.is_crowd) for segment in entry.segments],
        [segment.area for segment in entry.segments],
    )


def _id(value: int | str) -> str | None:
    """Return an image id as text; None if it has to be looked at closely."""
    if isinstance(value, int):
        return str(value)
    return value if _PLAIN_ID.fullmatch(value) else None


def _has(data: bytes, counts: Iterable[tuple[bytes, int]]) -> bool:
    r"""Return whether a JSON text has each name, quoted, so many times.

    msgspec keeps the last of several values of a name. A name can also be written by escapes (``\u0069d``); a text with
    escapes of Latin letters is never taken.
    """
    for name, count in counts:
        if data.count(name) != count:
            return False
    return b"\\u00" not in data


def _text_of(item: Any, key: str) -> str | None:
    """Return an id of a faulty element as text, None if it has none."""
    value = item.get(key) if isinstance(item, dict) else None
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
