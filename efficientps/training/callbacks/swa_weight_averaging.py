"""Stochastic weight averaging (Izmailov et al., arXiv 1803.05407): the mean of the weights after each late epoch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging


class SWAWeightAveraging(WeightAveraging):
    """Validates and saves the mean of the weights after ``start_epoch`` epochs and after each later one.

    Up to then it validates and saves the weights in training. Running statistics are averaged like weights. The
    learning rate is that of the schedule; the paper's is constant while weights are averaged. Resuming is exact.

    Lightning's ``StochasticWeightAveraging`` averages the same, but validates and saves the weights before averaging,
    replaces the schedule, and does not resume.

    Args:
        start_epoch: number of epochs after which averaging begins.

    Raises:
        ValueError: the number is not positive.
    """

    def __init__(self, *, start_epoch: int) -> None:
        """Store the number."""
        if start_epoch < 1:
            raise ValueError(f"start_epoch is {start_epoch}; give 1 or more.")
        super().__init__(use_buffers=True)
        self.start_epoch = start_epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow the weights in training, or take those at the end of an epoch into the mean."""
        average = self._average_model
        assert average is not None
        if trainer.current_epoch < self.start_epoch:
            average.n_averaged.zero_()  # the next update copies
            average.update_parameters(pl_module)  # type: ignore[no-untyped-call]
        elif trainer.is_last_batch:
            average.update_parameters(pl_module)  # type: ignore[no-untyped-call]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing: the last batch has done it, before the checkpoint of the epoch."""
