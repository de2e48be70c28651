"""Whether cuDNN measures which of its kernels is the fastest for each shape that it meets."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info

from efficientps.data.datamodule import PanopticDataModule

MAX_EVALUATION_SIZES = 2
"""Sizes of canvas in evaluation that autotuning is worth its time for; each new one costs seconds."""


class CudnnAutotuning(Callback):
    """Turns ``torch.backends.cudnn.benchmark`` on where images have few sizes, and off where they have many.

    Training crops all have one size. Images of evaluation keep their own shape: those of Cityscapes have one size as
    well, those of other data sets can have hundreds, each of which cuDNN would tune anew. What is tuned once is kept
    for the whole run. It concerns CUDA alone; ``trainer.benchmark`` true or false replaces it.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Decide, now that the data module has read its annotations."""
        self._before = torch.backends.cudnn.benchmark
        data = getattr(trainer, "datamodule", None)
        sizes = data.num_evaluation_sizes() if isinstance(data, PanopticDataModule) and stage != "predict" else None
        self.in_training = isinstance(data, PanopticDataModule)
        self.in_evaluation = sizes is not None and sizes <= MAX_EVALUATION_SIZES
        if trainer.strategy.root_device.type == "cuda":
            where = ["training"] * (stage == "fit" and self.in_training) + ["evaluation"] * self.in_evaluation
            rank_zero_info(
                f"cuDNN's autotuning is on in {' and '.join(where)}, where images have few sizes."
                if where
                else "cuDNN's autotuning is off: images may have many sizes (--trainer.benchmark true turns it on)."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set it for training."""
        torch.backends.cudnn.benchmark = self.in_training

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set it for evaluation."""
        torch.backends.cudnn.benchmark = self.in_evaluation

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set it for training, which may go on."""
        torch.backends.cudnn.benchmark = self.in_training

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set it for evaluation."""
        torch.backends.cudnn.benchmark = self.in_evaluation

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set it for images of any size."""
        torch.backends.cudnn.benchmark = self.in_evaluation

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave other code of this process as it was."""
        torch.backends.cudnn.benchmark = self._before
