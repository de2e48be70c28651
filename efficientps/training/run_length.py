"""How many optimizer steps a run has, and how many batches each of them accumulates."""

from __future__ import annotations

import math
import sys

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler, Timer

ENDLESS = sys.maxsize
"""The number of steps of a run without a last one."""


def accumulated_batches(trainer: pl.Trainer, epoch: int) -> int:
    """Return how many batches an optimizer step of an epoch accumulates, also where a callback changes it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set outside the class
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches(epoch)
    return trainer.accumulate_grad_batches


def accumulation_changes(trainer: pl.Trainer) -> bool:
    """Return whether steps of different epochs accumulate different numbers of batches."""
    return any(
        isinstance(callback, GradientAccumulationScheduler) and len(set(callback.scheduling.values())) > 1
        for callback in trainer.callbacks  # type: ignore[attr-defined]
    )


def time_is_limited(trainer: pl.Trainer) -> bool:
    """Return whether a limit of time may end the run."""
    return any(
        isinstance(callback, Timer) and callback.time_remaining() is not None
        for callback in trainer.callbacks  # type: ignore[attr-defined]
    )


def lengths_of_run(trainer: pl.Trainer) -> dict[str, int]:
    """Return ``total_steps`` and ``steps_per_epoch`` (of the first epoch), in optimizer steps, or ``ENDLESS``."""
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    batches = trainer.num_training_batches
    if batches == float("inf"):
        return {"total_steps": _limited(trainer, ENDLESS), "steps_per_epoch": ENDLESS}
    epochs = trainer.max_epochs
    total = ENDLESS
    if epochs is not None and epochs != -1:
        total = sum(_steps(batches, accumulated_batches(trainer, epoch)) for epoch in range(max(epochs, 1)))
    return {
        "total_steps": _limited(trainer, total),
        "steps_per_epoch": _steps(batches, accumulated_batches(trainer, 0)),
    }


def _steps(batches: float, accumulated: int) -> int:
    return math.ceil(batches / accumulated)


def _limited(trainer: pl.Trainer, steps: int) -> int:
    return min(steps, trainer.max_steps) if trainer.max_steps != -1 else steps
