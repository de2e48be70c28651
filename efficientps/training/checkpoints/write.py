"""Write checkpoints whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from efficientps.atomic_file import atomic_file


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; the message says why, and whether an earlier one exists."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a temporary file, waits until the disk holds it, and renames it.

    If the process or the machine stops at any moment, either the old file or the new file exists. What cannot be
    written ends the run; Lightning's own writer passes over a missing permission, and training would go on unsaved.
    """

    def __init__(self) -> None:
        """Start without known folders."""
        self._folders: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write the file, or raise an error and leave the old file in place.

        Args:
            checkpoint: tensors and plain types.
            path: the file. Its folder is created for the first file in it, but not again if it disappears later.
            storage_options: not used.

        Raises:
            CheckpointWriteError: the disk is full, the folder is gone, or writing is not permitted.
        """
        path = Path(path)
        try:
            if path.parent not in self._folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(path.parent)
            with atomic_file(path, durable=True) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except BaseException as error:
            if (cause := _cause(error)) is None:
                raise
            raise CheckpointWriteError(_explain(path, cause)) from error


def _cause(error: BaseException) -> OSError | None:
    """Return the error of the operating system, which torch.save replaces by an error of its own."""
    causes = (error, error.__context__)
    return next((cause for cause in causes if isinstance(cause, OSError)), None)


def _explain(path: Path, cause: OSError) -> str:
    if not path.parent.is_dir():
        return f"The checkpoint {path} could not be written: its folder is gone. Make it available and resume."
    before = "The one of that name before it is intact" if path.is_file() else "There is none of that name yet"
    return f"The checkpoint {path} could not be written: {cause.strerror or cause}. {before}; make room and resume."
