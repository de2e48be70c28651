"""A callback that tells when a training has made its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class FirstStep(pl.Callback):
    """Makes an empty file after the first training step."""

    def __init__(self, file: str) -> None:
        """Remember where.

        Args:
            file: the path.
        """
        self.file = file

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Make the file."""
        Path(self.file).touch()
