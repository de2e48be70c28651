"""Keep the logs of a run in step with its checkpoints."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from efficientps.training.loggers.metrics_csv import MetricsCsv

_KEY = "metrics_rows"


class ContinuedLog(Callback):
    """Stores in each checkpoint how many rows ``metrics.csv`` has, and cuts the file to them when a run goes on.

    Lightning logs a step after the checkpoint that is written in it; so that a run that is killed between the two has
    no gap, the step is logged before its checkpoint.
    """

    def __init__(self) -> None:
        """Begin outside of a step."""
        self._in_step = False

    def on_train_batch_start(self, *args: Any) -> None:
        """Note that the step before has been logged."""
        self._in_step = False

    def on_train_batch_end(self, *args: Any) -> None:
        """Note that the step has values that are not logged yet."""
        self._in_step = True

    def on_validation_start(self, *args: Any) -> None:
        """Note that the step before has been logged."""
        self._in_step = False

    def on_train_epoch_end(self, *args: Any) -> None:
        """Note that the step before has been logged."""
        self._in_step = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Log the step, and store the number of rows."""
        connector = trainer._logger_connector
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                if self._in_step and connector.should_update_logs:
                    row = {**connector.metrics["log"], "epoch": trainer.current_epoch}
                    logger.log_metrics(row, step=trainer.fit_loop.epoch_loop._batches_that_stepped)
                checkpoint[_KEY] = logger.num_rows

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Cut the file."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.cut(num_rows=checkpoint.get(_KEY), step=checkpoint["global_step"])
