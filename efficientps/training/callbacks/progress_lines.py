"""Show the progress of a run as plain lines, where the output is a file and no terminal."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar, Timer
from pytorch_lightning.trainer.states import TrainerFn

from efficientps.training.module import PanopticModule


class ProgressLines(ProgressBar):
    """Prints a line of progress at fixed intervals of time: for log files and the output of schedulers.

    A line of training says the epoch, the optimizer step, the loss, the learning rate, the images per second that
    ``ThroughputMonitor`` measured, and the time left; that of evaluation or prediction says the batch. A line follows
    each validation inside a training, with the panoptic quality and the best one so far. The first process alone
    prints. Values on a device are read only when a line is printed, so that the device is not waited for in between.

    The time left assumes that the rest of the run is as fast as what this process has done of it, validations
    included.

    Args:
        every_seconds: least time between two lines. A line is printed when the batch ends that exceeds it, and before
            that where one more batch would exceed it by half. The first step of a training has a line in any case.

    Raises:
        ValueError: the time is negative or no number.
    """

    def __init__(self, *, every_seconds: float = 10.0) -> None:
        """Store the interval."""
        super().__init__()
        if not 0 <= every_seconds < math.inf:
            raise ValueError(f"every_seconds is {every_seconds}; give a number of seconds from 0 on.")
        self.every_seconds = every_seconds
        self._is_enabled = True
        self._last_line = self._last_batch = -math.inf
        self._first_step: tuple[int, float] | None = None  # number of steps, and when they were done
        self._evaluated: tuple[int, float] = (0, 0.0)  # images, and when the evaluation began

    def enable(self) -> None:
        """Print from now on."""
        self._is_enabled = True

    def disable(self) -> None:
        """Print nothing from now on."""
        self._is_enabled = False

    # -------------------------------------------------------------------- training

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the time from the first step of this process on."""
        self._first_step, self._last_line = None, -math.inf

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if self._is_due(now):
            self._say(self._training_line(trainer, pl_module, now), now)
        if self._first_step is None:
            self._first_step = (trainer.global_step, now)

    def _training_line(self, trainer: pl.Trainer, pl_module: pl.LightningModule, now: float) -> str:
        total = trainer.estimated_stepping_batches
        is_endless = not 0 < total < sys.maxsize
        place = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        if not is_endless:
            place += f" of {total:.0f}"
        metrics = trainer.callback_metrics
        parts = []
        if "train/loss" in metrics:
            parts.append(f"loss {float(metrics['train/loss']):.4g}")
        if "train/lr" in metrics:
            parts.append(f"learning rate {float(metrics['train/lr']):.3g}")
        if "train/images_per_s" in metrics:
            parts.append(f"{float(metrics['train/images_per_s']):.3g} images/s")
        if (seconds := self._seconds_left(trainer, math.inf if is_endless else total, now)) is not None:
            parts.append(f"{duration(seconds)} left")
        return f"{place}: {', '.join(parts)}" if parts else place

    def _seconds_left(self, trainer: pl.Trainer, total: float, now: float) -> float | None:
        """Return the time until the last step, or until ``max_time`` ends the run; None where it is not known."""
        estimates = []
        if self._first_step is not None and total < math.inf:
            steps, since = self._first_step
            if trainer.global_step > steps:
                per_step = (now - since) / (trainer.global_step - steps)
                estimates.append(max(0.0, total - trainer.global_step) * per_step)
        for callback in trainer.callbacks:  # type: ignore[attr-defined] # set outside the class
            if isinstance(callback, Timer) and (seconds := callback.time_remaining()) is not None:
                estimates.append(max(0.0, seconds))
        return min(estimates, default=None)

    # ---------------------------------------------------- validation, test and prediction

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count the images."""
        self._evaluated = (0, time.monotonic())

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count the images."""
        self._evaluated = (0, time.monotonic())

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count the images."""
        self._evaluated = (0, time.monotonic())

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time for one."""
        if not trainer.sanity_checking:
            self._evaluation_line("validation", trainer, batch, batch_idx, trainer.num_val_batches[dataloader_idx])

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time for one."""
        self._evaluation_line("test", trainer, batch, batch_idx, trainer.num_test_batches[dataloader_idx])

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is time for one."""
        self._evaluation_line("prediction", trainer, batch, batch_idx, trainer.num_predict_batches[dataloader_idx])

    def _evaluation_line(self, what: str, trainer: pl.Trainer, batch: Any, batch_idx: int, total: float) -> None:
        images, begin = self._evaluated
        images += len(batch["image_ids"]) * trainer.world_size
        self._evaluated = (images, begin)
        now = time.monotonic()
        if not self._is_due(now):
            return
        done = batch_idx + 1
        seconds = max(now - begin, 1e-6)
        left = "" if total == math.inf else f", {duration((total - done) * seconds / done)} left"
        of = "" if total == math.inf else f" of {total:.0f}"
        self._say(f"{what}, batch {done}{of}: {images / seconds:.3g} images/s{left}", now)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the panoptic quality of a validation inside a training."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        assert isinstance(pl_module, PanopticModule) and pl_module.evaluation is not None
        quality = pl_module.evaluation.panoptic.all.pq
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)  # updated after this
        compared = "" if best is None else f" (best before: {100 * float(best):.2f})"
        if self._is_enabled:
            place = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
            self._say(f"{place}: PQ {100 * quality:.2f} in validation{compared}", time.monotonic())

    # ------------------------------------------------------------------------ lines

    def _is_due(self, now: float) -> bool:
        batch = min(now - self._last_batch, self.every_seconds)  # the last one, which may have followed a pause
        self._last_batch = now
        passed = now - self._last_line
        return self._is_enabled and (passed >= self.every_seconds or passed + batch > 1.5 * self.every_seconds)

    def _say(self, line: str, now: float) -> None:
        print(line, flush=True)
        self._last_line = now


def duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration(7.4), duration(125), duration(3600 * 30)
    ('7 s', '2 min 5 s', '30 h 0 min')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def default_progress(callbacks: Sequence[pl.Callback], *, refresh_rate: int) -> list[ProgressBar]:
    """Return the progress bar of a run, or its lines where no bar can be drawn; nothing where the user chose a bar.

    A bar needs a terminal that can move its cursor. Colours that an environment variable forces do not make a file a
    terminal.

    Args:
        callbacks: those of the user.
        refresh_rate: batches between two drawings of the bar; drawing it in every step slows down small networks.
    """
    if any(isinstance(callback, ProgressBar) for callback in callbacks):
        return []
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    return [RichProgressBar(refresh_rate=refresh_rate) if is_terminal else ProgressLines()]
