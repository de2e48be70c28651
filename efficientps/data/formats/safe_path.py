"""File names that an untrusted file gives: they must stay inside their folder."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from pathlib import PureWindowsPath
from reprlib import Repr

MAX_NAME = 4096
"""Largest number of characters of a file name with its folders: that of the longest path that Linux opens."""

_BRIEF = Repr()
_BRIEF.maxstring, _BRIEF.maxlevel = 120, 2
shortened = _BRIEF.repr
_PLAIN = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_. -]{0,200}/){0,9}[A-Za-z0-9_][A-Za-z0-9_. -]{0,200}")
"""``repr`` for messages: a value of an untrusted file may be of any length."""


def is_plain_name(name: str) -> bool:
    """Return whether ``inside`` takes a file name for reasons that one look shows: letters, digits, no dot in front."""
    return _PLAIN.fullmatch(name) is not None


def inside(root: str | os.PathLike[str], name: str, source: str | os.PathLike[str]) -> str:
    """Join a file name from a JSON file to its folder, and refuse one that leads out of it.

    A name must be relative, with "/" between its parts (backslashes and drives of Windows are refused on every system),
    without NUL or other control characters, and must not lead above the folder by "..". Links on the disk are followed.

    Args:
        root: the folder.
        name: the file name.
        source: the file that gives the name, for the message.

    Raises:
        ValueError: if the name breaks one of these rules.
    """
    if is_plain_name(name):
        return os.path.join(root, *name.split("/"))
    path = posixpath.normpath(name)
    plain = not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name[: MAX_NAME + 1])
    if (
        not plain
        or not 0 < len(name) <= MAX_NAME
        or path.startswith(("/", "../"))
        or path in (".", "..")
        or "\\" in name
        or PureWindowsPath(name).drive
    ):
        raise ValueError(
            f"Annotation file '{source}' names the file {shortened(name)}, which is not a relative path inside "
            f"'{root}'."
        )
    return os.path.join(root, *path.split("/"))
