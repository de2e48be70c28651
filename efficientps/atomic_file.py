"""Write a file that appears whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, concurrent: bool = False, durable: bool = False) -> Iterator[Path]:
    """Give the path of a temporary file, and rename that file to ``path`` when the ``with`` statement ends.

    The temporary file is in the same folder and its name ends in ``.partial``. An error inside the statement removes it
    and leaves ``path`` as it was.

    Args:
        path: the file to write; a file of that name is replaced. Its folder must exist.
        concurrent: whether several processes may write this file at the same time. Each of them then has a temporary
            file of its own; one that is killed leaves it behind. Otherwise the next writer takes over the remains.
        durable: whether to wait until the disk holds the content and the new name, so that they survive a power cut.

    Yields:
        The path to write to.

    Raises:
        OSError: if the file cannot be renamed, or the disk refuses its content; it names the file.
    """
    path = Path(path)
    temporary = path.with_name(f"{uuid.uuid4().hex}.partial" if concurrent else f"{path.name}.partial")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)  # errors of writing have none, those of opening the temporary one
        raise


def write_text(path: str | os.PathLike[str], text: str, *, concurrent: bool = False) -> None:
    """Write a text as UTF-8; the file appears whole or not at all.

    Args:
        path: the file to write; a file of that name is replaced.
        text: its content.
        concurrent: whether several processes may write this file at the same time.

    Raises:
        OSError: if the file cannot be written.
    """
    with atomic_file(path, concurrent=concurrent) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    """Wait until the disk holds the names in a folder; systems that cannot do that are left alone."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
