"""Learning-rate schedules, as factors of each parameter group's own learning rate.

All lengths are in optimizer steps. The factor of a step is a function of the step's number alone (of ``WarmupPlateau``:
and of a few stored numbers), so a resumed run continues exactly where it stopped.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def linear_warmup(step: int, *, iterations: int, start_factor: float) -> float:
    """Return the warm-up factor of a step: from ``start_factor`` at step 0 linearly to 1 at step ``iterations``.

    >>> [round(linear_warmup(step, iterations=4, start_factor=0.5), 3) for step in range(6)]
    [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
    """
    if step >= iterations:
        return 1.0
    return start_factor + (1.0 - start_factor) * step / iterations


def step_decay(step: int, *, milestones: Sequence[int], gamma: float) -> float:
    """Return ``gamma`` to the number of milestones that the step has reached.

    >>> [step_decay(step, milestones=(2, 3), gamma=0.5) for step in range(5)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """
    return float(gamma ** sum(step >= milestone for milestone in milestones))


def poly_decay(step: int, *, total_steps: int, power: float) -> float:
    """Return ``(1 - step / total_steps) ** power``, 0 from the last step on.

    >>> [round(poly_decay(step, total_steps=4, power=2), 4) for step in range(5)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    return float(max(0.0, 1.0 - step / max(1, total_steps)) ** power)


def cosine_decay(step: int, *, total_steps: int, final_factor: float) -> float:
    """Return half a cosine wave from 1 at step 0 to ``final_factor`` at step ``total_steps`` and after it.

    >>> [round(cosine_decay(step, total_steps=4, final_factor=0), 4) for step in range(5)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """
    progress = min(1.0, step / max(1, total_steps))
    return final_factor + (1.0 - final_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Plateau:
    """History of a monitored value (higher is better): its best, epochs without improvement, learning rate cuts.

    The rule is torch's ``ReduceLROnPlateau`` with ``mode="max"``, ``threshold_mode="rel"`` and no cooldown.
    """

    best: float = -math.inf
    waits: int = 0
    reductions: int = 0

    def observe(self, value: float, *, patience: int, threshold: float = 1e-4) -> Plateau:
        """Return the history after another value; ``patience`` + 1 values in a row without improvement add a cut."""
        if value > self.best * (1.0 + threshold) or self.best == -math.inf:
            return replace(self, best=value, waits=0)
        if self.waits + 1 > patience:
            return replace(self, waits=0, reductions=self.reductions + 1)
        return replace(self, waits=self.waits + 1)


class Schedule(ABC):
    """A learning-rate schedule; ``scheduler`` binds it to an optimizer and to the length of a run.

    Attributes:
        counts_epochs: the factor depends on ``steps_per_epoch``.
        spans_run: the factor depends on ``total_steps``.
    """

    counts_epochs: ClassVar[bool] = False
    spans_run: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse a warm-up of less than no steps."""
        if (iterations := getattr(self, "warmup_iterations", 0)) < 0:
            raise ValueError(f"warmup_iterations is {iterations}; give 0 or more.")

    @abstractmethod
    def factor(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        """Return the factor of the learning rate in an optimizer step.

        Args:
            step: number of the optimizer step, from 0.
            total_steps: optimizer steps of the whole run.
            steps_per_epoch: optimizer steps of one epoch.
        """

    def scheduler(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> ScheduledLR:
        """Return the torch scheduler that applies this schedule; call its ``step`` after each optimizer step."""
        return ScheduledLR(optimizer, self, total_steps=total_steps, steps_per_epoch=steps_per_epoch)


class RunScheduler(LRScheduler):
    """A scheduler that steps after each optimizer step, and also hears of validations.

    Attributes:
        monitor: the metric that ``observe`` expects.
    """

    monitor: str = "val/PQ"

    def observe(self, value: float) -> None:
        """Report the monitored metric of a validation; by default nothing depends on it."""

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Return whether a stored progress is that of such a scheduler."""
        return set(state) == set(self.state_dict())


class ScheduledLR(RunScheduler):
    """Sets each group's learning rate to its initial one times the factor of a ``Schedule``.

    Args:
        optimizer: the optimizer whose learning rates are set.
        schedule: the schedule.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of one epoch.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, *, total_steps: int, steps_per_epoch: int) -> None:
        """Set the learning rates of step 0."""
        self.schedule = schedule
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:  # torch: list[float | Tensor]
        """Return the learning rate of each group in the current step."""
        factor = self.schedule.factor(
            self.last_epoch, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch
        )
        return [base_lr * factor for base_lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's progress as plain types, so that a checkpoint loads with ``weights_only=True``.

        The schedule and the length of the run come from the configuration, so a run can be resumed with more epochs.
        """
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs), "last_lr": list(self._last_lr)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a stored progress."""
        self.last_epoch = int(state_dict["last_epoch"])
        self._step_count = self.last_epoch + 1
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = list(state_dict["last_lr"])


@dataclass(frozen=True, kw_only=True)
class WarmupSteps(Schedule):
    """Linear warm-up, then a reduction at each milestone; the defaults are those of the authors' code.

    Args:
        warmup_iterations: length of the warm-up; 500 in the authors' code, 200 in the paper.
        warmup_factor: factor of the first step (1/3 in the paper and in the authors' code).
        milestones: epochs after which the rate is reduced (120 and 144 of 160 in the authors' code).
        gamma: factor of each reduction.
    """

    counts_epochs: ClassVar[bool] = True

    warmup_iterations: int = 500
    warmup_factor: float = 1 / 3
    milestones: tuple[int, ...] = (120, 144)
    gamma: float = 0.1

    def factor(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        """Return warm-up times step decay."""
        warmup = linear_warmup(step, iterations=self.warmup_iterations, start_factor=self.warmup_factor)
        milestones = [epoch * steps_per_epoch for epoch in self.milestones]
        return warmup * step_decay(step, milestones=milestones, gamma=self.gamma)


@dataclass(frozen=True, kw_only=True)
class WarmupDecay(Schedule):
    """Linear warm-up, then a smooth decay over the whole run; it suits runs that are too short for milestones.

    Args:
        decay: ``"cosine"``, or ``"poly"`` as in the DeepLab family.
        warmup_iterations: length of the warm-up; it is limited to a tenth of the run.
        warmup_factor: factor of the first step.
        final_factor: factor at the end of the cosine decay.
        power: exponent of the polynomial decay (0.9 in the DeepLab family).
    """

    spans_run: ClassVar[bool] = True

    decay: Literal["cosine", "poly"] = "cosine"
    warmup_iterations: int = 500
    warmup_factor: float = 1 / 3
    final_factor: float = 0.0
    power: float = 0.9

    def factor(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        """Return warm-up times decay."""
        iterations = min(self.warmup_iterations, total_steps // 10)
        warmup = linear_warmup(step, iterations=iterations, start_factor=self.warmup_factor)
        if self.decay == "poly":
            return warmup * poly_decay(step, total_steps=total_steps, power=self.power)
        return warmup * cosine_decay(step, total_steps=total_steps, final_factor=self.final_factor)


@dataclass(frozen=True, kw_only=True)
class WarmupPlateau(Schedule):
    """Linear warm-up, then a reduction whenever the panoptic quality stops rising (the small-batch Adam recipe).

    Args:
        warmup_iterations: length of the warm-up.
        warmup_factor: factor of the first step.
        patience: number of validations without improvement that change nothing; the next one reduces the rate.
        gamma: factor of each reduction.
        min_lr: smallest rate that a reduction sets; a group that starts below it is not reduced.
    """

    warmup_iterations: int = 500
    warmup_factor: float = 1 / 3
    patience: int = 3
    gamma: float = 0.1
    min_lr: float = 1e-4

    def factor(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        """Return the warm-up factor; ``PlateauLR`` applies the reductions."""
        return linear_warmup(step, iterations=self.warmup_iterations, start_factor=self.warmup_factor)

    def scheduler(self, optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> ScheduledLR:
        """Return the torch scheduler that applies the warm-up and reduces the rate on a plateau."""
        return PlateauLR(optimizer, self, total_steps=total_steps, steps_per_epoch=steps_per_epoch)


class PlateauLR(ScheduledLR):
    """``ScheduledLR`` of a ``WarmupPlateau``; it stores the history of the panoptic quality.

    Lightning steps torch's own ``ReduceLROnPlateau`` after it has written the epoch's checkpoint, and does not step it
    when this checkpoint is resumed. This scheduler observes the value before the checkpoint is written, so the
    checkpoint contains it.
    """

    schedule: WarmupPlateau

    def __init__(
        self, optimizer: Optimizer, schedule: WarmupPlateau, *, total_steps: int, steps_per_epoch: int
    ) -> None:
        """Set the learning rates of step 0."""
        self.plateau = Plateau()
        super().__init__(optimizer, schedule, total_steps=total_steps, steps_per_epoch=steps_per_epoch)

    def get_lr(self) -> list[Any]:  # torch: list[float | Tensor]
        """Return the learning rate of each group in the current step, after all reductions so far."""
        cut = self.schedule.gamma**self.plateau.reductions
        warmup = self.schedule.factor(
            self.last_epoch, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch
        )
        return [warmup * max(base_lr * cut, min(base_lr, self.schedule.min_lr)) for base_lr in self.base_lrs]

    def observe(self, value: float) -> None:
        """Report the panoptic quality of a validation; a reduction takes effect immediately."""
        self.plateau = self.plateau.observe(value, patience=self.schedule.patience)
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's progress as plain types."""
        plateau = {"best": self.plateau.best, "waits": self.plateau.waits, "reductions": self.plateau.reductions}
        return super().state_dict() | {"plateau": plateau}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a stored progress."""
        super().load_state_dict(state_dict)
        self.plateau = Plateau(**state_dict["plateau"])
