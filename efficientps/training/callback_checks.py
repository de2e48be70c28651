"""Refuse callbacks that would fail in the middle of a run, or change it without a word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BaseFinetuning,
    EarlyStopping,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from efficientps.metrics.evaluator import FIGURES

KNOWN = (
    *(f"val/{name}" for name in FIGURES),
    *("train/loss", "train/lr", "loss", "train/images_per_s", "train/data_wait"),
)
"""Metrics of every training. The loss terms of a network are known after its first step alone."""

_TERMS = "train/loss_"
_OF_THESE = ("efficientps", "pytorch_lightning", "lightning")
"""Packages whose callbacks log nothing that is not known."""


def check_callbacks(callbacks: Iterable[pl.Callback], *, validates: bool) -> None:
    """Check the callbacks of a training before its first step.

    Args:
        callbacks: those of the trainer.
        validates: whether there are validations.

    Raises:
        ValueError: a callback is not supported, or waits for a metric that there is not, or in the wrong direction.
    """
    callbacks = list(callbacks)
    for callback in callbacks:
        _check_kind(callback)
    logs_more = any(type(callback).__module__.partition(".")[0] not in _OF_THESE for callback in callbacks)
    for callback in callbacks:
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and callback.monitor:
            _check_monitor(callback, callback.monitor, validates=validates, logs_more=logs_more)


def _check_kind(callback: pl.Callback) -> None:
    name = type(callback).__name__
    if isinstance(callback, StochasticWeightAveraging):
        raise ValueError(
            f"{name} of Lightning validates and saves the weights before averaging, and a run with it cannot be "
            "resumed; use SWAWeightAveraging, with start_epoch in place of swa_epoch_start."
        )
    if isinstance(callback, BaseFinetuning):
        raise ValueError(
            f"{name} of Lightning adds parameter groups in the middle of a run, which processes do not synchronise; "
            "use FrozenBackbone, with epochs in place of unfreeze_backbone_at_epoch."
        )
    if isinstance(callback, LearningRateFinder) and callback._update_attr and not callback._early_exit:
        raise ValueError(
            f"{name} would change the learning rate in the run, which then could not be resumed with its "
            "configuration; give it update_attr false: it prints the rate that it suggests, for a new run."
        )


def _check_monitor(callback: EarlyStopping | ModelCheckpoint, metric: str, *, validates: bool, logs_more: bool) -> None:
    name = type(callback).__name__
    if isinstance(callback, EarlyStopping) and not callback.strict:
        return
    if not logs_more:
        check_metric(name, metric)
    if isinstance(callback, EarlyStopping) and not validates and metric.startswith("val/"):
        raise ValueError(f"{name} waits for {metric}, and this run makes no validation (limit_val_batches is 0).")
    best = "max" if metric in KNOWN and metric.startswith("val/") else callback.mode
    best = "min" if metric == "train/loss" or metric.startswith(_TERMS) else best
    if callback.mode != best:
        more = "more" if best == "max" else "less"
        raise ValueError(f"{name} has mode {callback.mode}, and {more} of {metric} is better; give it mode {best}.")


def check_metric(who: str, metric: str) -> None:
    """Refuse to wait for a metric that no training logs.

    Args:
        who: the callback or schedule that waits.
        metric: the name.

    Raises:
        ValueError: with the near names, or all.
    """
    if metric in KNOWN or metric.startswith(_TERMS):
        return
    names = {known.lower(): known for known in KNOWN}
    near = [known for known in KNOWN if known.lower().endswith(f"/{metric.lower()}")]
    near = near or [names[found] for found in difflib.get_close_matches(metric.lower(), names, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(KNOWN)}."
    raise ValueError(f"{who} waits for the metric {metric}, which is never logged; {hint}")


def check_resumed(callbacks: Iterable[pl.Callback]) -> None:
    """Check the callbacks of a training that goes on.

    Raises:
        ValueError: one of them belongs before a training.
    """
    if any(isinstance(callback, LearningRateFinder) for callback in callbacks):
        raise ValueError("LearningRateFinder searches before a training begins; leave it out to resume one.")


def say_suggestion(callbacks: Iterable[pl.Callback]) -> str | None:
    """Return what a learning-rate finder has found, in one sentence; None where there is none."""
    for callback in callbacks:
        if isinstance(callback, LearningRateFinder) and callback.optimal_lr is not None:
            rate = callback.optimal_lr.suggestion()
            if rate is None:
                return "The learning-rate finder has seen too few steps to suggest a rate; give it num_training_steps."
            return f"The learning-rate finder suggests {rate:.2g}; this run keeps its own rate."
    return None
