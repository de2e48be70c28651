"""Write the checkpoint to resume from: at fixed intervals, after every epoch, and before the run stops."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info

PREEMPTED_EXIT_CODE = 75
"""Exit code of a run that SIGTERM ended and that can continue (EX_TEMPFAIL of sysexits.h)."""

INTERRUPTED_EXIT_CODE = 128 + signal.SIGINT
"""Exit code of a run that Ctrl-C ended and that can continue: 130, as shells have it."""

_EXIT_CODES = {signal.SIGTERM: PREEMPTED_EXIT_CODE, signal.SIGINT: INTERRUPTED_EXIT_CODE}

_INTERRUPT_NOTE = b"\nCtrl-C: the run ends after this step and saves its state; press Ctrl-C again to end at once.\n"


class Preempted(SystemExit):
    """SIGTERM or Ctrl-C has ended the run."""

    def __init__(self, signum: int = signal.SIGTERM) -> None:
        """Exit with the documented code of the signal."""
        super().__init__(_EXIT_CODES[signal.Signals(signum)])


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt`` up to date, beside the checkpoints with the best metric.

    It is written every ``every_n_steps`` steps, after a validation inside an epoch, after each epoch, and when the run
    stops, whatever stops it; always one file, replaced as a whole. A run that goes on from it equals one that was never
    interrupted: on a CPU bit by bit, on CUDA within the spread of two plain runs, because the backward passes of
    RoIAlign and of bilinear upsampling add in an order that differs from run to run.

    On SIGTERM, which schedulers send before they take the machine away, and on SIGINT, which Ctrl-C sends, the run
    writes it at the next step and exits with ``PREEMPTED_EXIT_CODE`` or ``INTERRUPTED_EXIT_CODE``; one process that is
    told is enough. If the signal arrives during validation, the run exits at once; on resume it repeats the steps since
    the last checkpoint, and the validation. A second Ctrl-C ends the run at once.

    A stop between batches whose gradients are accumulated waits for their step. If a stop makes Lightning validate
    where no validation is due, the file is written before that validation.

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
        self._signal = 0  # that has told this run to end
        self._ready_to_end = False
        self._stop_waits = False
        self._saved_step = -1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the folder of the file, and make it: a run without a checkpoint is known as a training by it."""
        if stage == "fit":
            kept = getattr(trainer.checkpoint_callback, "dirpath", None)
            log_dir = trainer.log_dir  # every rank takes part in finding it
            folder = Path(kept) if kept else Path(log_dir or trainer.default_root_dir, "checkpoints")
            self.path = folder / "last.ckpt"
            _write_no_other_last(trainer, folder)
            if trainer.is_global_zero:
                folder.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle SIGTERM instead of Lightning, whose handler communicates with other processes; and SIGINT.

        Lightning restores the former handlers when the run ends, also after an error.
        """
        self._signal = signal.SIGTERM if trainer.received_sigterm else 0
        self._ready_to_end, self._stop_waits, self._saved_step = False, False, -1
        self._says_so = trainer.is_global_zero
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)
            signal.signal(signal.SIGINT, self._note_interrupt)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signum

    def _note_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._signal == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the third one need not wait for Lightning
            raise Preempted(signum)
        self._signal = signum
        if self._says_so:  # print must not be called inside of a call of print
            os.write(2, _INTERRUPT_NOTE)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the run; by now the values of the last step have been logged."""
        if self._ready_to_end:
            raise Preempted(self._signal)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the file if the interval is over or the run must end."""
        if trainer.fit_loop._should_accumulate():  # gradients in the making are not in a checkpoint
            self._let_stop_wait(trainer)
            return
        if self._stop_waits:
            trainer.should_stop = True
        told = self._told_to_end(trainer)
        if trainer.is_last_batch or validation_is_due(trainer):  # its result belongs in the file
            return
        if told:
            self._save(trainer)
            rank_zero_info(f"{signal.Signals(told).name}: the run ends; its state is saved in {self.path}.")
            self._ready_to_end = True
        elif trainer.should_stop or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            self._save(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file before a validation that is made only because the run stops: what it changes is not kept."""
        stops = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and trainer.should_stop
        if stops and not validation_is_due(trainer) and self._saved_step != trainer.global_step:
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
        if self._signal and trainer.state.fn == TrainerFn.FITTING:
            raise Preempted(self._signal)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file after a validation inside an epoch."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or trainer.is_last_batch:
            return
        if trainer.fit_loop._should_accumulate():
            self._let_stop_wait(trainer)
        elif self._saved_step != trainer.global_step:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file after each epoch, and after a stop inside one."""
        if self._saved_step != trainer.global_step:
            self._save(trainer)
        if told := self._told_to_end(trainer):
            raise Preempted(told)

    def _let_stop_wait(self, trainer: pl.Trainer) -> None:
        """Put off a stop until the optimizer step that the accumulated gradients are for."""
        self._stop_waits = self._stop_waits or trainer.should_stop
        trainer.should_stop = False

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_step = trainer.global_step

    def _told_to_end(self, trainer: pl.Trainer) -> int:
        """Return the signal that any process has received, 0 for none; the answer is the same on all processes."""
        if trainer.world_size > 1:
            told = torch.tensor(float(self._signal), device=trainer.strategy.root_device)
            self._signal = int(trainer.strategy.reduce(told, reduce_op="max"))
        return self._signal


def _write_no_other_last(trainer: pl.Trainer, folder: Path) -> None:
    """Turn ``save_last`` of Lightning's callbacks off in a folder: a second writer would leave a second file there."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.save_last:
            if callback.dirpath is None or Path(callback.dirpath).resolve() == folder.resolve():
                callback.save_last = None
                rank_zero_info(f"save_last of {type(callback).__name__} is not needed: {folder / 'last.ckpt'} is kept.")


def validation_is_due(trainer: pl.Trainer) -> bool:
    """Return whether a validation belongs at this place of the run, even if the run does not stop here.

    Lightning also validates where a run stops early.
    """
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    assert fetcher is not None
    stops, trainer.should_stop = trainer.should_stop, False
    try:
        return loop.epoch_loop._should_check_val_fx(fetcher)
    finally:
        trainer.should_stop = stops
