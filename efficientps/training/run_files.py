"""The files of a run: its folder, its logs and its resolved configuration."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info


class RunConfig(SaveConfigCallback):
    """Saves the resolved configuration as ``config.yaml`` in the folder of the run, beside its checkpoints.

    The path of a resumed checkpoint is left out, so that the saved file starts a new run.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Save the file, once."""
        self.config = self.config.clone()
        self.config["ckpt_path"] = None
        super().setup(trainer, pl_module, stage)


def run_loggers(root: str | Path) -> list[Logger]:
    """Return the loggers of a new run below ``root``: TensorBoard (if installed) and CSV, both in one folder."""
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        rank_zero_info("TensorBoard is not installed: logging to metrics.csv alone (pip install tensorboard adds it).")
        return [CSVLogger(root, name="")]
    tensorboard = TensorBoardLogger(root, name="", default_hp_metric=False)
    return [tensorboard, CSVLogger(root, name="", version=tensorboard.version)]
