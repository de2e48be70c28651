"""Files whose names begin with a dot: no listing of a folder takes them for data.

macOS writes a file ``._a.png`` beside each ``a.png`` in archives and on disks of other systems.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def is_hidden(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> bool:
    """Return whether a part of a path begins with a dot.

    Args:
        path: a relative path, or one below ``root``.
        root: the folder whose own parts do not count.

    >>> is_hidden("bonn/._a.png"), is_hidden("/home/.data/bonn/a.png", "/home/.data")
    (True, False)
    """
    parts = Path(path).parts if root is None else Path(path).relative_to(root).parts
    return any(part.startswith(".") and part not in (".", "..") for part in parts)


def visible(paths: Iterable[Path], root: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the paths below a folder that are not hidden."""
    return (path for path in paths if not is_hidden(path, root))
