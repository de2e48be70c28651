"""Let cuDNN measure which of its kernels is the fastest, but only for shapes that recur."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info

from efficientps.data.loading.datamodule import PanopticDataModule

TUNED_BATCHES = 4
"""Number of batches, in training and in evaluation, in which cuDNN measures; shapes that recur all occur in them."""

MAX_EVALUATION_SIZES = 2
"""Up to this number of padded sizes in evaluation, measuring for each of them saves more time than it takes."""


class CudnnAutotuning(Callback):
    """Turns ``torch.backends.cudnn.benchmark`` on for the first batches of training and of evaluation.

    Training crops all have one size. Images of evaluation keep their aspect ratio: those of Cityscapes have one size as
    well; those of other data sets can have hundreds of sizes, and then nothing is measured. cuDNN keeps what it found
    for the whole run. After the first batches, all shapes that are new depend on what an image shows, as the number of
    boxes in Mask R-CNN's mask branch does: measuring for each of hundreds would take more time than it could save.

    It concerns CUDA alone; ``trainer.benchmark`` true or false replaces it.
    """

    def __init__(self) -> None:
        """Start before the first batch."""
        self.in_evaluation = False
        self._batches = {"training": 0, "evaluation": 0}
        self._before = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Decide whether to measure in evaluation, from the image sizes of the data module."""
        self._before = torch.backends.cudnn.benchmark
        data = getattr(trainer, "datamodule", None)
        sizes = data.num_evaluation_sizes() if isinstance(data, PanopticDataModule) and stage != "predict" else None
        self.in_evaluation = sizes is not None and sizes <= MAX_EVALUATION_SIZES
        loops = ["training"] * (stage == "fit") + ["evaluation"] * self.in_evaluation
        if trainer.strategy.root_device.type == "cuda" and loops:
            rank_zero_info(
                f"cuDNN looks for its fastest kernels in the first {TUNED_BATCHES} batches of "
                f"{' and of '.join(loops)}, which take longer; Trainer(benchmark=False) turns it off."
            )

    def _count(self, loop: str, *, measured: bool = True) -> None:
        torch.backends.cudnn.benchmark = measured and self._batches[loop] < TUNED_BATCHES
        self._batches[loop] += 1

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Turn measuring on or off for a training batch."""
        self._count("training")

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Turn measuring on or off for a validation batch."""
        self._count("evaluation", measured=self.in_evaluation)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Turn measuring on or off for a test batch."""
        self._count("evaluation", measured=self.in_evaluation)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Turn measuring off, because the images to predict have any size."""
        torch.backends.cudnn.benchmark = False

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the setting from before the run."""
        torch.backends.cudnn.benchmark = self._before
