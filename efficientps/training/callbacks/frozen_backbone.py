"""Keep the backbone as it is in the first epochs of a training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.optim import Optimizer

from efficientps.training.module import PanopticModule


class FrozenBackbone(Callback):
    """Freezes the backbone for a number of epochs: neither its weights nor the running statistics of its norms change.

    It is in evaluation mode for that time, without stochastic depth and dropout.

    The optimizer holds all parameters from the start, so that a checkpoint of either part of the training resumes
    exactly, and parameter groups stay what they are. On one device the frozen part needs no backward pass. Between
    several processes its gradients are computed and dropped, because the processes expect those of every parameter that
    they once agreed on.

    Args:
        epochs: number of epochs, from the first on.

    Raises:
        ValueError: the number is not positive.
    """

    def __init__(self, *, epochs: int) -> None:
        """Store the number."""
        if epochs < 1:
            raise ValueError(f"epochs is {epochs}; give 1 or more, or leave FrozenBackbone out.")
        self.epochs = epochs
        self._without_gradient: list[nn.Parameter] = []
        self._in_evaluation: list[nn.Module] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Freeze, or let the backbone learn again; what is frozen follows from the number of the epoch alone."""
        if trainer.current_epoch >= self.epochs:
            self._release()
        elif any(backbone.training for backbone in _backbones(pl_module)):
            self._freeze(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Drop the gradients of the backbone where it has some."""
        if trainer.current_epoch < self.epochs:
            for parameter in _weights(pl_module):
                parameter.grad = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the network as it was."""
        self._release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the network as it was."""
        self._release()

    def _freeze(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        modules = [module for backbone in _backbones(pl_module) for module in backbone.modules() if module.training]
        self._in_evaluation += modules
        for module in modules:
            module.training = False
        if not isinstance(trainer.strategy, DDPStrategy):
            learning = [parameter for parameter in _weights(pl_module) if parameter.requires_grad]
            self._without_gradient += learning
            for parameter in learning:
                parameter.requires_grad_(False)

    def _release(self) -> None:
        for module in self._in_evaluation:
            module.training = True
        for parameter in self._without_gradient:
            parameter.requires_grad_(True)
        self._in_evaluation, self._without_gradient = [], []


def _backbones(pl_module: pl.LightningModule) -> list[nn.Module]:
    assert isinstance(pl_module, PanopticModule)
    return pl_module.network.backbones()


def _weights(pl_module: pl.LightningModule) -> Iterator[nn.Parameter]:
    for backbone in _backbones(pl_module):
        yield from backbone.parameters()
