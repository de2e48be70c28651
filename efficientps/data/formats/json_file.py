"""Reading of a JSON file by the standard, with a limit of its size; an annotation file is untrusted."""

from __future__ import annotations

import codecs
import json
import math
import os
import stat
from collections import Counter
from typing import Any

from efficientps.data.formats.safe_path import shortened

MAX_JSON_BYTES = 2**31
"""Largest size of a JSON file."""

_PIECE = 2**20
_OTHER_ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read the text of a JSON file as UTF-8, without the byte-order mark that editors on Windows write before it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no regular file, larger than ``MAX_JSON_BYTES``, or not in UTF-8.
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
        with open(path, "rb") as file:
            mark = file.read(len(codecs.BOM_UTF8))
            file.seek(len(codecs.BOM_UTF8) if mark == codecs.BOM_UTF8 else 0)
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise missing(path) from None
    if (encoding := _OTHER_ENCODINGS.get(mark[:2])) is not None:
        raise ValueError(f"Annotation file '{path}' is not valid JSON (it is in {encoding}); save it as UTF-8.")
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(data)
    try:
        for start in range(0, len(data), _PIECE):  # the whole as text would take its memory a second time
            decoder.decode(view[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise invalid_json(path, error) from None
    return data


def missing(path: str | os.PathLike[str]) -> FileNotFoundError:
    """Return the error about an annotation file that does not exist."""
    return FileNotFoundError(f"Annotation file '{path}' does not exist.")


def parse_json(data: bytes, path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON text in UTF-8.

    Python's own reader also accepts NaN, infinities, numbers out of the range of a float, and objects with a repeated
    name; these are errors here.

    Args:
        data: the text.
        path: its file, for messages.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return json.loads(
            str(data, "utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite_number,
            object_pairs_hook=_object_without_doubles,
        )
    except (ValueError, RecursionError) as error:
        raise invalid_json(path, error) from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a whole annotation file, as ``parse_json`` does.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as ``read_bytes`` and ``parse_json``.
        OSError: if disk, network or rights keep the file from being read.
    """
    return parse_json(read_bytes(path), path)


def invalid_json(path: str | os.PathLike[str], error: Exception) -> ValueError:
    """Return the error that says that a file is not JSON."""
    reason = "too many levels" if isinstance(error, RecursionError) else error
    return ValueError(f"Annotation file '{path}' is not valid JSON ({reason}); make it again.")


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
