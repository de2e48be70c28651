"""Log images per second and the share of time spent waiting for data."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from pytorch_lightning.callbacks import Callback
from torch import Tensor


class ThroughputMonitor(Callback):
    """Logs the number of training images per second, over all devices, and the share of time spent waiting for data.

    CUDA runs asynchronously, so that single steps cannot be timed. Windows of ``trainer.log_every_n_steps`` batches
    can, because the loss is read once in each. Validation is not counted.
    """

    def __init__(self) -> None:
        """Start with an empty window."""
        self._figures: dict[str, Tensor] = {}
        self._restart(0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a window: a resumed run may continue inside an epoch, without a call at the start of the epoch."""
        self._restart(time.perf_counter())

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a window, so that the time of validation is not counted."""
        self._restart(time.perf_counter())

    def _restart(self, now: float) -> None:
        self._window_start = self._batch_end = now
        self._images, self._batches, self._wait = 0, 0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the wait since the last batch ended."""
        self._wait += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close the window when it is full, and log the values of the last full window."""
        self._images += len(batch["image_ids"])
        self._batches += 1
        now = self._batch_end = time.perf_counter()
        window = trainer.log_every_n_steps  # type: ignore[attr-defined] # set outside the class
        if self._batches >= min(window, trainer.num_training_batches):
            seconds = now - self._window_start
            # Tensors on the CPU, because Lightning would copy plain numbers to the device and wait for the copy.
            self._figures = {
                "train/images_per_s": torch.tensor(self._images * trainer.world_size / seconds),
                "train/data_wait": torch.tensor(self._wait / seconds),
            }
            self._restart(now)
        # Logged in every step; the trainer decides which steps reach the log file.
        pl_module.log_dict(self._figures, prog_bar=True, batch_size=1)
