"""Read checkpoints, which are untrusted files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efficientps.backbones.weights import read_file


class NoTrainingStateError(ValueError):
    """A file holds weights, but nothing to go on training from.

    Attributes:
        path: the file.
    """

    def __init__(self, message: str, path: str | Path = "") -> None:
        """Keep the file."""
        super().__init__(message)
        self.path = path


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint or a state dict: tensors and plain types only, on the CPU, mapped rather than copied.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, is no checkpoint, or holds pickled objects.
    """
    return read_file(path, kind="checkpoint")


def check_checkpoint(path: str | Path, *, resume: bool) -> None:
    """Read a file that Lightning will load, so that a bad one is refused before anything is set up.

    Args:
        path: the file.
        resume: whether training will continue from it, which also needs the optimizer's state.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read.
        NoTrainingStateError: the file holds weights alone.
    """
    content = read_checkpoint(path)
    needed = ["state_dict", "pytorch-lightning_version"] + ["optimizer_states", "lr_schedulers", "loops"] * resume
    if any(key not in content for key in needed):
        raise NoTrainingStateError(f"The file {path} holds weights, but no state of training.", path)
