"""Refuse to resume with another optimizer, or with other parameter groups, than those of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer

from efficientps.training.schedules import RunScheduler

_NOT_COMPARED = {"params", "name", "lr", "foreach", "fused", "capturable", "differentiable"}
"""Entries of a group that are no hyperparameters, choose an implementation, or follow the schedule (``lr``)."""


class ResumeMismatchError(ValueError):
    """A checkpoint holds the state of another optimizer, or of another schedule, than this run's.

    Attributes:
        path: the file of the checkpoint.
        argument: the argument of the optimizer that differs, if it is one.
    """

    def __init__(self, message: str, path: str | Path = "", argument: str | None = None) -> None:
        """Keep the file and the argument."""
        super().__init__(message)
        self.path = path
        self.argument = argument


class ResumedOptimizer(Callback):
    """Compares optimizer and schedule with those of a checkpoint before their state is loaded.

    torch keeps the hyperparameters of the checkpoint in silence, and fails with a ``KeyError`` on another class.
    """

    def __init__(self) -> None:
        """Start without a checkpoint."""
        self._saved: Mapping[str, Any] | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the groups and the schedule of the checkpoint."""
        optimizers, schedules = checkpoint.get("optimizer_states"), checkpoint.get("lr_schedulers")
        if optimizers and schedules:
            self._saved = {"groups": optimizers[0]["param_groups"], "schedule": schedules[0]}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare; by now the optimizer exists, and its state is not loaded yet."""
        saved, self._saved = self._saved, None
        if saved is None or not trainer.ckpt_path:
            return
        path = str(trainer.ckpt_path)
        scaled = getattr(pl_module, "scale_lr", None) is not None
        check_optimizer(trainer.optimizers[0], saved["groups"], path=path, scaled=scaled)
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        if any(isinstance(one, RunScheduler) and not one.fits(saved["schedule"]) for one in schedulers):
            raise ResumeMismatchError(f"The checkpoint {path} is of a run with another schedule.", path, "schedule")


def check_optimizer(
    optimizer: Optimizer, saved: Sequence[Mapping[str, Any]], *, path: str | Path, scaled: bool = False
) -> None:
    """Refuse the groups of a checkpoint that do not fit an optimizer.

    Args:
        optimizer: that of this run, with ``initial_lr`` in its groups.
        saved: ``param_groups`` of the checkpoint.
        path: the file of the checkpoint, for the message.
        scaled: whether the learning rate follows the total batch size, which may change with the number of devices:
            the rate of the checkpoint then stays, with a warning.

    Raises:
        ResumeMismatchError: class, hyperparameters, or the number or sizes of the groups differ.
    """
    here = optimizer.param_groups
    sizes, expected = ([len(group["params"]) for group in groups] for groups in (saved, here))
    if sizes != expected:
        raise ResumeMismatchError(
            f"The checkpoint {path} trains parameter groups of {_counts(sizes)} tensors, this run those of "
            f"{_counts(expected)}: other parts of the network are frozen, or divided into groups in another way.",
            path,
        )
    for group, before in zip(here, saved, strict=True):
        moving = {"momentum", "betas"} if "base_momentum" in group else set()  # the schedule cycles them
        names, others = (set(one) - _NOT_COMPARED - moving for one in (group, before))
        if names - others and others - names:
            raise ResumeMismatchError(
                f"The checkpoint {path} is of a run with another optimizer than {type(optimizer).__name__}: it holds "
                f"{', '.join(sorted(others - names))}.",
                path,
                "optimizer",
            )
        for name in sorted(names & others):
            value, former = _plain(group[name]), _plain(before[name])
            if value == former:
                continue
            if name == "initial_lr" and scaled:
                rank_zero_warn(
                    f"The learning rate stays at that of the checkpoint, {former:g}; scaled to the total batch of this "
                    f"run it would be {value:g}."
                )
                continue
            name = name.removeprefix("initial_")
            raise ResumeMismatchError(
                f"The checkpoint {path} was trained with {name} {former}, this run gives {value}.", path, name
            )


def _plain(value: Any) -> Any:
    return float(value) if hasattr(value, "item") else list(value) if isinstance(value, (tuple, list)) else value


def _counts(sizes: Sequence[int]) -> str:
    return " + ".join(map(str, sizes))
