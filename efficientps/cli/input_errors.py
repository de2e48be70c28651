"""Sentences for errors about files and values, for commands that start without PyTorch and Lightning."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor
from pathlib import Path

from efficientps.data.sources.split_files import MissingCityscapesError, MissingMapsError

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Codes of errors about a place that cannot be written to, whatever room there is."""

MISSING_DATA_ADVICE: dict[type[BaseException], str] = {
    MissingCityscapesError: (
        "The page 'Data sets' of the documentation says how to get it; 'efficientps draw streets' draws scenes in its "
        "format that need no download."
    ),
    MissingMapsError: "Make them with: efficientps convert cityscapes {root}",
}
"""What to do about data that are not there; attributes of the error fill it in."""


def explain_missing_data(error: FileNotFoundError) -> str:
    """Return one sentence for an error of ``efficientps.data.sources.split_files``."""
    return with_advice(str(error), error, MISSING_DATA_ADVICE)


def with_advice(sentence: str, error: BaseException, advice: Mapping[type[BaseException], str]) -> str:
    """Add the notes of an error and what to do about its type, which the error's attributes fill in."""
    for note in getattr(error, "__notes__", ()):
        sentence = f"{sentence.removesuffix('.')} ({note})."
    text = next((text for kind, text in advice.items() if isinstance(error, kind)), None)
    return f"{sentence} {text.format(**vars(error))}" if text else sentence


def explain_input(
    error: ValueError | OSError | BrokenExecutor, outputs: Mapping[str, str | os.PathLike[str] | None] | None = None
) -> str:
    r"""Return one sentence for an error of a file, or for one about what a user gave.

    Args:
        error: what was raised.
        outputs: the places that a command writes to, by the options that choose them.

    >>> explain_input(FileNotFoundError(2, "No such file or directory", "a/b.json"))
    'No such file or directory: a/b.json.'
    >>> explain_input(PermissionError(13, "Permission denied", "a/b.json"))
    'No permission for a/b.json; check who owns it, or choose another path.'
    >>> explain_input(OSError(errno.EROFS, "Read-only file system", "a/b.json"), {"--output": "a"})
    'Cannot write a/b.json: the file system is read-only; choose another path with --output.'
    >>> explain_input(ValueError("The folder a/b is empty;\n give another."))
    'The folder a/b is empty; give another.'
    """
    if isinstance(error, BrokenExecutor):
        return (
            "A process of this command was killed, most often because the machine is out of memory; give fewer of them "
            "with --workers."
        )
    option = next(iter(keys_of_place(error.filename, outputs or {})), None) if isinstance(error, OSError) else None
    how = f" with {option}" if option else ""
    if isinstance(error, PermissionError) and (error.filename or error.strerror or not str(error)):
        return f"No permission for {error.filename or error}; check who owns it, or choose another path{how}."
    if isinstance(error, PermissionError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        place = error.filename or "a file"
        return f"Cannot write {place}: the file system is read-only; choose another path{how}."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:
        return f"A file could not be written: {error.strerror}. Make room, and run the command again."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    return " ".join(str(error).split()) or f"{type(error).__name__}."


def keys_of_place(place: object, values: Mapping[str, object]) -> list[str]:
    """Return the keys whose value is a path that a place is at or in; the innermost path alone counts.

    >>> keys_of_place("/a/runs/version_0", {"data.root": "/a", "trainer.default_root_dir": "/a/runs", "seed": 0})
    ['trainer.default_root_dir']
    >>> keys_of_place("/b", {"data.root": "/a"})
    []
    """
    if not isinstance(place, str | os.PathLike):
        return []
    paths = {
        key: Path(os.path.abspath(value))
        for key, value in values.items()
        if isinstance(value, str | os.PathLike) and os.fspath(value)
    }
    target = Path(os.path.abspath(place))
    around = {key: path for key, path in paths.items() if path == target or path in target.parents}
    depth = max((len(path.parts) for path in around.values()), default=0)
    return [key for key, path in around.items() if len(path.parts) == depth]
