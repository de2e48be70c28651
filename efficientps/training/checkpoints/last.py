"""Write the checkpoint to resume from: at fixed intervals, after every epoch, and on SIGTERM."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info

PREEMPTED_EXIT_CODE = 75
"""Exit code of a run that SIGTERM ended and that can continue (EX_TEMPFAIL of sysexits.h)."""


class Preempted(SystemExit):
    """SIGTERM has ended the run."""

    def __init__(self) -> None:
        """Exit with the documented code."""
        super().__init__(PREEMPTED_EXIT_CODE)


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt`` up to date, beside the checkpoints with the best metric.

    It is written every ``every_n_steps`` steps, after a validation inside an epoch, and after each epoch; always one
    file, replaced as a whole. A run that goes on from it equals one that was never interrupted: on a CPU bit by bit, on
    CUDA within the spread of two plain runs, because the backward passes of RoIAlign and of bilinear upsampling add in
    an order that differs from run to run.

    On SIGTERM, which schedulers send before they take the machine away, the run writes it at the next step and exits
    with ``PREEMPTED_EXIT_CODE``; one process that is told is enough. If SIGTERM arrives
    during validation, the run exits at once; on resume it repeats the steps since the last checkpoint, and the
    validation.

    Args:
        every_n_steps: optimizer steps between two files, the most that a killed run loses. ``None`` writes after
            epochs only.

    Attributes:
        path: the file; known once a training is set up.

    Raises:
        ValueError: the number is not positive.
    """

    def __init__(self, *, every_n_steps: int | None = 500) -> None:
        """Store the interval."""
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; give 1 or more, or null for none.")
        self.every_n_steps = every_n_steps
        self.path = Path()
        self._told_to_end = False
        self._ready_to_end = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the folder of the file."""
        if stage == "fit":
            kept = getattr(trainer.checkpoint_callback, "dirpath", None)
            log_dir = trainer.log_dir  # every rank takes part in finding it
            folder = Path(kept) if kept else Path(log_dir or trainer.default_root_dir, "checkpoints")
            self.path = folder / "last.ckpt"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle SIGTERM instead of Lightning, whose handler communicates with other processes.

        Lightning restores the former handler when the run ends, also after an error.
        """
        self._told_to_end = trainer.received_sigterm
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._told_to_end = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the run; by now the values of the last step have been logged."""
        if self._ready_to_end:
            raise Preempted

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the file if the interval is over or the run must end."""
        if trainer.fit_loop._should_accumulate():  # gradients in the making are not in a checkpoint
            return
        told = self._any_told_to_end(trainer)
        if is_followed_by_validation(trainer):  # its result belongs in the file
            return
        if told:
            self._save(trainer)
            rank_zero_info(f"SIGTERM: the run ends; its state is saved in {self.path}.")
            self._ready_to_end = True
        elif self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """End the run inside a validation, which may last longer than the scheduler waits."""
        if self._told_to_end and trainer.state.fn == TrainerFn.FITTING:
            raise Preempted

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file after a validation inside an epoch."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and not trainer.is_last_batch and not trainer.fit_loop._should_accumulate():
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file after each epoch."""
        self._save(trainer)
        if self._any_told_to_end(trainer):
            raise Preempted

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)

    def _any_told_to_end(self, trainer: pl.Trainer) -> bool:
        """Return whether any process has received SIGTERM; the answer is the same on all processes."""
        if trainer.world_size == 1:
            return self._told_to_end
        told = torch.tensor(float(self._told_to_end), device=trainer.strategy.root_device)
        self._told_to_end = bool(trainer.strategy.reduce(told, reduce_op="sum") > 0)
        return self._told_to_end


def is_followed_by_validation(trainer: pl.Trainer) -> bool:
    """Return whether a validation or the end of the epoch comes before the next training batch."""
    epoch_loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return trainer.is_last_batch or epoch_loop._should_check_val_fx(fetcher)
