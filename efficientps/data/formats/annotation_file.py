"""Reading of a COCO panoptic file as a whole: every element once, into arrays, with all faults that it has.

The text is cut into its elements first, which ``annotation_elements`` decodes.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType

from efficientps.data.formats.annotation_elements import Faults, SegmentColumns, decode_annotation, decode_image
from efficientps.data.formats.annotation_table import AnnotationTable
from efficientps.data.formats.coco_fields import list_under
from efficientps.data.formats.json_file import invalid_json, parse_json, read_bytes
from efficientps.data.formats.packed_text import PackedText


class _Lists(msgspec.Struct):
    images: Raw | UnsetType = UNSET
    annotations: Raw | UnsetType = UNSET


_ELEMENTS = msgspec.json.Decoder(list[Raw])


@dataclass(frozen=True, eq=False)
class RawDocument:
    """The text of a file, cut into the elements of its two long lists.

    Attributes:
        path: the file.
        head: everything else: the classes, above all. The two lists are empty in it.
        images: the elements of ``images``.
        annotations: the elements of ``annotations``.
    """

    path: str | os.PathLike[str]
    head: Any
    images: list[Raw]
    annotations: list[Raw]

    def require(self, *lists: str) -> None:
        """Refuse a file without one of its lists.

        Raises:
            ValueError: if one is missing.
        """
        _require(self.path, self.head, lists)


@dataclass(frozen=True, eq=False)
class AnnotationFile:
    """What a file says.

    Attributes:
        path: the file.
        head: everything but the two long lists, as ``RawDocument`` has it.
        image_names: name of each image of ``images``, in its order.
        table: the entries of the good annotations.
        faults: what is wrong with single elements.
        disagreements: which good image has no annotation, and which good annotation has no image.
        faulty_maps: names of the maps of faulty annotations.
        faulty_images: ids of the images with a fault, where they can be read.
    """

    path: str | os.PathLike[str]
    head: Any
    image_names: PackedText
    table: AnnotationTable
    faults: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()
    faulty_maps: frozenset[str] = frozenset()
    faulty_images: frozenset[str] = frozenset()

    def require(self, *lists: str) -> None:
        """As ``RawDocument.require``."""
        _require(self.path, self.head, lists)


def read_annotation_file(path: str | os.PathLike[str]) -> AnnotationFile:
    """Read a file once, for everyone who needs a part of it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not JSON, or too large; everything else that is wrong is in the result.
        OSError: if disk, network or rights keep the file from being read.
    """
    return decode(read_document(path))


def read_document(path: str | os.PathLike[str]) -> RawDocument:
    """Read the text of a file, and find the elements of its lists; raise as ``read_annotation_file``."""
    data = read_bytes(path)
    found: dict[str, list[Raw]] = {"images": [], "annotations": []}
    pieces, start = [], 0
    try:
        lists = msgspec.json.decode(data, type=_Lists)
        for begin, name in sorted((_place(data, getattr(lists, name)), name) for name in found):
            if data[begin : begin + 1] == b"[":
                raw = getattr(lists, name)
                found[name] = _ELEMENTS.decode(raw)
                pieces += [data[start:begin], b"[]"]
                start = begin + len(memoryview(raw))
    except msgspec.ValidationError:
        pass  # the document is no object
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid_json(path, _half_character(data, error) or error) from None
    # A list that the file has twice is still there once, and this refuses an object with two equal names.
    head = parse_json(b"".join([*pieces, data[start:]]), path)
    return RawDocument(path, head, found["images"], found["annotations"])


def decode(document: RawDocument) -> AnnotationFile:
    """Read the elements of a document, and note all that is wrong with them.

    Raises:
        ValueError: if an element is not JSON by the standard.
    """
    path, faults = document.path, Faults()
    rows: dict[str, int] = {}
    names: list[str] = []
    sizes = array("i")
    for number, raw in enumerate(document.images):
        image = decode_image(raw, path, f"images[{number}].", faults)
        if image is None:
            continue
        image_id, name, size = image
        if image_id in rows:
            faults.add(f"Annotation file '{path}' has the image id '{image_id}' twice in 'images'.")
            faults.images.add(image_id)
            continue
        rows[image_id] = len(names)
        names.append(name)
        sizes.extend(size)
    columns = SegmentColumns()
    seen: dict[str, int] = {}
    for number, raw in enumerate(document.annotations):
        annotation = decode_annotation(raw, path, f"annotations[{number}].", faults)
        if annotation is None:
            continue
        if annotation[0] in seen:
            faults.add(f"Annotation file '{path}' has two annotations for the image id '{annotation[0]}'.")
            faults.images.add(annotation[0])
            continue
        seen[annotation[0]] = rows.get(annotation[0], -1)
        columns.append(*annotation)
    every_size = np.array(sizes, dtype=np.int32).reshape(-1, 2)
    image_rows = np.fromiter(seen.values(), dtype=np.int64, count=len(seen))
    table = AnnotationTable(
        image_ids=PackedText(seen),
        map_names=PackedText(columns.map_names),
        image_names=PackedText(names[row] if row >= 0 else "" for row in seen.values()),
        sizes=np.concatenate([every_size, np.zeros((1, 2), dtype=np.int32)])[image_rows],
        segments=columns.segments(),
    )
    return AnnotationFile(
        path=path,
        head=document.head,
        image_names=PackedText(names),
        table=table,
        faults=tuple(faults.sentences),
        disagreements=tuple(_disagreements(path, rows, seen, faults)),
        faulty_maps=frozenset(faults.maps),
        faulty_images=frozenset(faults.images),
    )


def _disagreements(
    path: str | os.PathLike[str], images: Mapping[str, int], annotations: Mapping[str, int], faults: Faults
) -> Iterator[str]:
    """Yield which annotation has no image and which image no annotation, but for those that a fault accounts for."""
    if not faults.nameless_image:
        for image_id, row in annotations.items():
            if row < 0 and image_id not in faults.images:
                yield f"Annotation file '{path}' has no entry in 'images' for the image id '{image_id}'."
    if not faults.nameless_annotation:
        for image_id in images:
            if image_id not in annotations and image_id not in faults.annotated:
                yield f"Annotation file '{path}' has no annotation for the image id '{image_id}'."


def _half_character(data: bytes, error: Exception) -> ValueError | None:
    r"""Return an error that names the field whose text has half of a surrogate pair, such as ``\\ud800`` alone."""
    found = re.search(r"(?:hex escape|surrogate pair) \(byte (\d+)\)", str(error))
    if found is None:
        return None
    before = data[max(0, int(found[1]) - 2000) : int(found[1])]
    keys = re.findall(rb'"([\w -]{1,100})"\s*:\s*"(?:[^"\\]|\\.)*$', before)
    named = f" in the text of '{keys[-1].decode()}'" if keys else ""
    return ValueError(f"half of a character, an escape from \\ud800 to \\udfff alone{named}, byte {found[1]}")


def _place(data: bytes, raw: Raw | UnsetType) -> int:
    """Return where a part of a text begins; behind its end if there is no such part."""
    if raw is UNSET:
        return len(data)
    addresses = [np.frombuffer(part, dtype=np.uint8).ctypes.data for part in (raw, data)]
    return addresses[0] - addresses[1]


def _require(path: str | os.PathLike[str], head: Any, lists: tuple[str, ...]) -> None:
    for name in lists:
        list_under(path, head, name)
