"""The optimizer of a LightningModule: parameter groups, learning rates, schedule, steps and clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch.optim import SGD, Optimizer

from efficientps.training.callback_checks import say_suggestion
from efficientps.training.mixed_precision import clip_gradients, unscaling_closure
from efficientps.training.parameter_groups import linear_scale, parameter_groups, scale_learning_rates
from efficientps.training.run_length import accumulated_batches, accumulation_changes
from efficientps.training.run_schedule import run_scheduler
from efficientps.training.schedules import Schedule
from efficientps.training.self_described import SelfDescribedModule
from efficientps.training.torch_schedulers import Interval, TorchScheduler

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
AUTHORS_OPTIMIZER: OptimizerFactory = partial(SGD, lr=0.07, momentum=0.9, weight_decay=1e-4)
"""The optimizer of the authors' code (DeepSceneSeg/EfficientPS:configs)."""


class OptimizedModule(SelfDescribedModule):
    """Builds the optimizer and the schedule of its network, and makes the steps.

    Attributes:
        batch_size: images per device and step.
        optimizer_factory: builds the optimizer from parameter groups.
        schedule: learning-rate schedule, or what builds a scheduler of PyTorch.
        schedule_interval: what a scheduler of PyTorch counts.
        scale_lr: total batch size that the optimizer's learning rate is meant for.
        group_options: decay of norms, factor of the backbone's rate, and the factor from each of its layers to the one
            before it.
    """

    batch_size: int
    optimizer_factory: OptimizerFactory
    schedule: Schedule | TorchScheduler
    schedule_interval: Interval
    scale_lr: int | None
    group_options: tuple[bool, float, float]
    _own_rate: float | None = None

    @property
    def learning_rate(self) -> float:
        """The highest learning rate of the optimizer's groups.

        Setting it, as ``Tuner.lr_find`` of Lightning does, gives the next training this rate in place of that of its
        optimizer; ``scale_lr`` does not change it.
        """
        optimizer = cast(Optimizer, self.optimizers())
        return max(float(group["lr"]) for group in optimizer.param_groups)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._own_rate = rate

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer over the parameter groups, and its scheduler, which steps after each optimizer step.

        Raises:
            ValueError: optimizer, schedule and length of the run do not fit together.
        """
        decays_norms, factor, decay = self.group_options
        options = {"backbone_lr_factor": factor, "backbone_layer_decay": decay}
        groups = parameter_groups(self.network, weight_decay_norms=decays_norms, **options)
        optimizer = self.optimizer_factory(groups)
        scale_learning_rates(optimizer, self._rate_scale(optimizer))
        scales_rates = self.scale_lr is not None or factor != 1.0 or decay != 1.0
        scheduler = run_scheduler(
            self.schedule, optimizer, self.trainer, interval=self.schedule_interval, scales_rates=scales_rates
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate_scale(self, optimizer: Optimizer) -> float:
        """Return the factor of all learning rates."""
        if self._own_rate is not None:
            return self._own_rate / float(optimizer.defaults["lr"])
        if self.scale_lr is not None and accumulation_changes(self.trainer):
            raise ValueError("scale_lr needs one total batch size, and GradientAccumulationScheduler changes it.")
        total_batch = self.batch_size * self.trainer.world_size * accumulated_batches(self.trainer, 0)
        return linear_scale(total_batch=total_batch, reference_batch=self.scale_lr)

    def on_train_start(self) -> None:
        """Accumulate as many batches as the epoch wants, which Lightning forgets in an epoch that is resumed.

        What a learning-rate finder suggests is printed.
        """
        if suggestion := say_suggestion(self.trainer.callbacks):  # type: ignore[attr-defined] # set outside the class
            rank_zero_info(suggestion)
        self.trainer.accumulate_grad_batches = accumulated_batches(self.trainer, self.trainer.current_epoch)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make an optimizer step; with a loss scale, a fused optimizer's gradients are unscaled before clipping."""
        closure = unscaling_closure(self.trainer.precision_plugin, optimizer, optimizer_closure)
        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients, also those of a fused optimizer in mixed precision, which Lightning refuses to clip."""
        plugin = self.trainer.precision_plugin
        if gradient_clip_val and isinstance(plugin, MixedPrecision):
            clip_gradients(plugin, optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
