"""Bind a learning-rate schedule to a run: its optimizer, its length, and its accumulated batches."""

from __future__ import annotations

from collections.abc import Mapping

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from efficientps.training.run_length import ENDLESS, accumulation_changes, lengths_of_run, time_is_limited
from efficientps.training.schedules import RunScheduler, Schedule
from efficientps.training.torch_schedulers import Interval, TorchScheduler, torch_scheduler


def run_scheduler(
    schedule: Schedule | TorchScheduler,
    optimizer: Optimizer,
    trainer: pl.Trainer,
    *,
    interval: Interval = "step",
    scales_rates: bool = False,
) -> RunScheduler:
    """Return the scheduler of a run, which steps after each optimizer step.

    Args:
        schedule: one of this package, or what builds a scheduler of PyTorch.
        optimizer: its groups have their learning rates.
        trainer: knows the length of the run.
        interval: what a scheduler of PyTorch counts.
        scales_rates: see ``torch_scheduler``.

    Raises:
        ValueError: the schedule needs a length of the run that is not known, or epochs of equal length where their
            numbers of accumulated batches differ; or as ``torch_scheduler``.
    """
    lengths = lengths_of_run(trainer)
    by_epochs = interval == "epoch"
    if isinstance(schedule, Schedule):
        if by_epochs:
            raise ValueError(
                f"schedule_interval is epoch, and {type(schedule).__name__} has lengths of its own; it is for "
                "schedulers of PyTorch."
            )
        by_epochs = schedule.counts_epochs
        if schedule.spans_run:
            _check_end(type(schedule).__name__, lengths["total_steps"], trainer)
    if by_epochs and accumulation_changes(trainer):
        raise ValueError(
            "The schedule counts epochs of equal length, and GradientAccumulationScheduler changes the number of steps "
            "in an epoch; accumulate the same number in all epochs, or choose a schedule that counts steps, such as "
            "WarmupDecay."
        )
    if isinstance(schedule, Schedule):
        return schedule.scheduler(optimizer, **lengths)
    return torch_scheduler(schedule, optimizer, interval=interval, scales_rates=scales_rates, **lengths)


def tell_metric(scheduler: object, metrics: Mapping[str, Tensor | float]) -> None:
    """Report a validation to the scheduler of a run; those of Lightning's averaging and rate finder take none.

    Args:
        scheduler: the one that is in use.
        metrics: values by name, with ``val/`` before those of the validation.

    Raises:
        ValueError: the metric that the schedule waits for is not among them.
    """
    if not isinstance(scheduler, RunScheduler):
        return
    if scheduler.monitor not in metrics:
        raise ValueError(f"The schedule waits for {scheduler.monitor}, and there is {', '.join(metrics)}.")
    scheduler.observe(float(metrics[scheduler.monitor]))


def _check_end(name: str, total_steps: int, trainer: pl.Trainer) -> None:
    """Refuse a decay over a run without a last step; say so where a limit of time may end the run before it."""
    if total_steps == ENDLESS:
        raise ValueError(
            f"{name} decays over the whole run, and the run has no last step; give max_epochs or max_steps (max_time "
            "does not tell how many steps there will be), or choose a schedule with milestones."
        )
    if time_is_limited(trainer):
        rank_zero_warn(
            f"{name} decays over the {total_steps} steps of max_epochs and max_steps. If max_time ends the run before, "
            "the learning rate has not come to its end."
        )
