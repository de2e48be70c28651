"""Schedulers of PyTorch as the schedule of a run: stepped per optimizer step or per epoch, and resumed exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from efficientps.training.callback_checks import check_metric
from efficientps.training.run_length import ENDLESS
from efficientps.training.schedules import RunScheduler

Interval = Literal["step", "epoch"]
TorchScheduler = Callable[[Optimizer], LRScheduler]

_MOVING = {
    *("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial", "_initial_step"),
    *("base_lrs", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i", "_schedulers"),
}
"""Attributes of PyTorch's schedulers that change while they run, or follow the optimizer's rates."""

_LENGTHS = ("T_max", "total_iters", "total_steps")
"""Attributes of PyTorch's schedulers that say after how many of its steps one ends or begins again."""


class SteppedLR(RunScheduler):
    """Steps a scheduler of PyTorch at the right moments, and stores it in checkpoints.

    Lightning would step a scheduler per epoch, or on a plateau, after it has written the checkpoint of the epoch, and
    would not step it when this checkpoint is resumed. This class steps it before.

    Args:
        inner: the scheduler.
        interval: a step of the scheduler is an optimizer step or an epoch. ``ReduceLROnPlateau`` steps at each
            validation.
        steps_per_epoch: optimizer steps of one epoch.
    """

    def __init__(self, inner: LRScheduler, *, interval: Interval, steps_per_epoch: int) -> None:
        """Begin before the first step; the inner scheduler has set the rates of step 0."""
        self.inner = inner
        self.optimizer = inner.optimizer
        self.monitor = getattr(inner, "monitor", self.monitor)
        self._every = steps_per_epoch if interval == "epoch" else 1
        self._steps = 0

    def step(self, epoch: int | None = None) -> None:
        """Count an optimizer step, and step the scheduler if it is due."""
        self._steps += 1
        if not isinstance(self.inner, ReduceLROnPlateau) and self._steps % self._every == 0:
            self.inner.step()

    def observe(self, value: float) -> None:
        """Report the monitored metric of a validation; only ``ReduceLROnPlateau`` reacts to it."""
        if isinstance(self.inner, ReduceLROnPlateau):
            self.inner.step(value)

    def get_last_lr(self) -> list[Any]:
        """Return the learning rate of each group in the current step."""
        return self.inner.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return the progress of the scheduler as plain types."""
        return {"steps": self._steps, "of": type(self.inner).__name__, "scheduler": self.inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a stored progress."""
        self._steps = int(state_dict["steps"])
        self.inner.load_state_dict(state_dict["scheduler"])

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Return whether a stored progress is that of a scheduler of this class with the same arguments."""
        if not super().fits(state) or state["of"] != type(self.inner).__name__:
            return False
        if not type(self.inner).__module__.startswith("torch."):
            return True
        here, there = self.inner.state_dict(), state["scheduler"]
        return all(here[key] == there[key] for key in here.keys() & there.keys() - _MOVING)


def torch_scheduler(
    factory: TorchScheduler,
    optimizer: Optimizer,
    *,
    interval: Interval,
    total_steps: int,
    steps_per_epoch: int,
    scales_rates: bool,
) -> SteppedLR:
    """Build a scheduler of PyTorch for a run.

    Args:
        factory: builds the scheduler for an optimizer.
        optimizer: its groups have their learning rates.
        interval: what the scheduler counts.
        total_steps: optimizer steps of the whole run, or ``ENDLESS``.
        steps_per_epoch: optimizer steps of one epoch.
        scales_rates: whether learning rates differ between groups or follow the batch size, which a scheduler that sets
            rates of its own would undo.

    Raises:
        ValueError: an argument of the scheduler is missing, or it ends before the run, or it sets the rates itself
            although they are scaled, or it waits for a metric in the wrong direction.
    """
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    run = total_steps if interval == "step" or total_steps == ENDLESS else -(-total_steps // steps_per_epoch)
    length = "no end" if run == ENDLESS else f"{run} {interval}s"
    try:
        inner = factory(optimizer)
    except (TypeError, ValueError) as error:
        reason = str(error).removesuffix(".")
        raise ValueError(f"The scheduler cannot be built: {reason}. The run has {length}.") from error
    name = type(inner).__name__
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group.setdefault("initial_lr", rate)
    own = [float(group["initial_lr"]) for group in optimizer.param_groups]
    if own != rates and scales_rates and len(set(own)) == 1:
        raise ValueError(
            f"{name} sets the learning rates itself, so that scale_lr, backbone_lr_factor and backbone_layer_decay "
            "have no effect; leave them out, or choose another schedule."
        )
    if isinstance(inner, ReduceLROnPlateau):
        monitor = getattr(inner, "monitor", SteppedLR.monitor)
        check_metric(name, monitor)
        if monitor.startswith("val/") and inner.mode != "max":
            raise ValueError(f"{name} has mode {inner.mode}, and more of {monitor} is better; give it mode max.")
    for attribute in _LENGTHS:
        end = getattr(inner, attribute, None)
        if isinstance(end, int) and 0 < end < run:
            _short(inner, attribute, end, length, interval)
            break
    return SteppedLR(inner, interval=interval, steps_per_epoch=steps_per_epoch)


def _short(inner: LRScheduler, attribute: str, end: int, length: str, interval: Interval) -> None:
    """Say that a scheduler ends before the run; refuse one that would raise an error there."""
    name = type(inner).__name__
    sentence = f"{name} has {attribute} {end}, counted in {interval}s, and the run has {length}"
    if isinstance(inner, OneCycleLR):
        raise ValueError(f"{sentence}: it ends before the run does. Give it the length of the run.")
    rest = "the rate rises again after them" if attribute == "T_max" else "the rate stays as it is after them"
    rank_zero_warn(f"{sentence}: {rest}. schedule_interval chooses between steps and epochs.")
