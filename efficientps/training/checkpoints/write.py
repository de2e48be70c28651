"""Writing checkpoints so that a file with the name of one is always whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from efficientps.atomic_file import atomic_file


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; the message says why, and what became of the one before."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file, waits until the disk has it, and renames.

    Whenever the process dies, and whatever the disk does, either the old file is there or the new one. What cannot be
    written ends the run; Lightning's own writer passes over a missing permission, and training would go on unsaved.
    """

    def __init__(self) -> None:
        """No folder is known yet."""
        self._folders: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write the file, or leave everything as it was.

        Args:
            checkpoint: tensors and plain types.
            path: the file. Its folder is made for the first file in it; when it is gone later, it is not made anew.
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
    """Return what the system refused; torch.save hides it behind an error of its own."""
    causes = (error, error.__context__)
    return next((cause for cause in causes if isinstance(cause, OSError)), None)


def _explain(path: Path, cause: OSError) -> str:
    if not path.parent.is_dir():
        return f"The checkpoint {path} could not be written: its folder is gone. Make it available and resume."
    before = "The one of that name before it is intact" if path.is_file() else "There is none of that name yet"
    return f"The checkpoint {path} could not be written: {cause.strerror or cause}. {before}; make room and resume."
