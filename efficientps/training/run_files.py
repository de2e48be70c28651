"""The files of a run: its logs and its resolved configuration."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info

from efficientps.atomic_file import write_text
from efficientps.training.loggers.metrics_csv import MetricsCsv
from efficientps.training.run_folder import RunFolder


class RunConfig(SaveConfigCallback):
    """Saves the resolved configuration as ``config.yaml`` in the folder of the run, beside its checkpoints.

    The path of a resumed checkpoint is left out, so that the saved file starts a new run. A run that goes on replaces
    the file.

    Attributes:
        has_begun: whether the run has come to its first batches; the folder of one that fails before is removed.
    """

    has_begun = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tell every process the folder, and save the file, once."""
        if self.already_saved:
            return
        folder = next(logger.folder for logger in trainer.loggers if isinstance(logger, MetricsCsv))
        folder.share(trainer.strategy)
        if trainer.is_global_zero:
            config = self.config.clone()
            config["ckpt_path"] = None
            write_text(folder.path / self.config_filename, self.parser.dump(config, skip_unset=False))
        self.already_saved = True

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the run has begun."""
        self.has_begun = True

    on_train_start = on_validation_start = on_test_start = on_predict_start = on_sanity_check_start

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the new folder of a run that could not begin, for instance because its data are not there."""
        if self.has_begun:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardEvents):
                logger.finalize("failed")  # closes its file
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.folder.discard()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let other processes use the folder."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.folder.release()


class TensorBoardEvents(TensorBoardLogger):
    """TensorBoard's files in the folder of a run.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        """Store the folder; no file is touched yet."""
        super().__init__(folder.root, name="", version="", default_hp_metric=False)
        self.folder = folder

    @property
    def root_dir(self) -> str:
        """The folder of the run."""
        return str(self.folder.path)

    @property
    def log_dir(self) -> str:
        """The folder of the run."""
        return str(self.folder.path)

    @property
    def save_dir(self) -> str:
        """The folder of the run."""
        return str(self.folder.path)

    def go_on_from(self, step: int) -> None:
        """Let TensorBoard pass over what was written from this step on, because the run writes it again."""
        self._kwargs["purge_step"] = step


def run_loggers(folder: RunFolder, *, enabled: bool = True) -> list[Logger]:
    """Return the loggers of a run: CSV, which the trainer takes the folder from, and TensorBoard if it is installed.

    Args:
        folder: folder of the run.
        enabled: whether anything is logged.
    """
    own: list[Any] = [MetricsCsv(folder, enabled=enabled)]
    if not enabled:
        return own
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        rank_zero_info("TensorBoard is not installed: logging to metrics.csv alone (pip install tensorboard adds it).")
        return own
    return [*own, TensorBoardEvents(folder)]
