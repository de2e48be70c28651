"""Limits of an untrusted checkpoint as an archive: what it holds beside its tensors is little."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import FileIO
from pathlib import Path

from efficientps.backbones.weights import packed_weights, unreadable
from efficientps.inference.building import ModelFileError
from efficientps.inference.pickle_limits import PickleLimitError, check_stream

_MOST_BYTES = 1_500_000
"""Of each part beside the tensors: four times what the training of EfficientNet-B7 with AdamW has."""


def is_archive(path: str | Path) -> bool:
    """Return whether a file begins as those do that ``torch.save`` writes by default."""
    with Path(path).open("rb") as file:
        return file.read(2) == b"PK"


def check_archive(path: str | Path) -> None:
    """Check that a checkpoint can be read in a second and in little memory, whatever its tensors are.

    Raises:
        ModelFileError: it is damaged, has more beside its tensors than any checkpoint, or has values that only harm.
    """
    try:
        with _File(path) as file, zipfile.ZipFile(file) as archive:
            if any(entry.filename.endswith("/data.pkl") for entry in archive.infolist()):
                check_stream(_stream(archive))
                return
        packed = packed_weights(path, "checkpoint")  # the file is an archive around a checkpoint
        if packed is not None:
            with zipfile.ZipFile(packed) as archive:
                check_stream(_stream(archive))
    except (PickleLimitError, _TooLongError) as error:
        raise ModelFileError(f"The checkpoint {path} {error}.") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        KeyError,
        EOFError,
        RuntimeError,
        UnicodeDecodeError,
    ) as error:
        raise ModelFileError(unreadable(path, "checkpoint")) from error


class _TooLongError(ValueError):
    """A part of an archive exceeds the limit."""

    def __init__(self, size: int) -> None:
        super().__init__(f"has {size} bytes beside its tensors; {_MOST_BYTES} are the most")


class _File(FileIO):
    """A file that is never read in a long piece; the directory of an archive is read in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_BYTES:
            raise _TooLongError(size)
        return super().read(-1 if size is None else size)


def _stream(archive: zipfile.ZipFile) -> bytes:
    """Return the pickle stream, if PyTorch's reader finds the same one.

    That reader ignores upper and lower case, and bytes that stand before the archive.
    """
    entries = archive.infolist()
    parts = {entry.filename.lower(): entry for entry in entries}
    if not entries or len(parts) < len(entries) or all(entry.header_offset for entry in entries):
        raise PickleLimitError("is damaged: its parts are not those of a file that PyTorch wrote")
    for name, entry in parts.items():
        if entry.file_size > _MOST_BYTES and not name.partition("/")[2].startswith("data/"):
            raise _TooLongError(entry.file_size)
    folder = entries[0].filename.partition("/")[0]
    return archive.read(f"{folder}/data.pkl")
