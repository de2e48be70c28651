"""Write the report of a validation as an HTML file, if it is enabled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from efficientps.reporting.curves import Curve, read_curves
from efficientps.reporting.html import write_report
from efficientps.reporting.worst_images import WorstImages, worst_first
from efficientps.training.callbacks.comparison import compare, legend
from efficientps.training.gathering import gather_items
from efficientps.training.module import PanopticModule


class HtmlReport(Callback):
    """Writes ``report/report.html`` into the folder of the run after each validation, in place of the one before.

    It shows the panoptic quality of every class, the curves of the training, and the images of the lowest quality with
    prediction and ground truth. Where a checkpoint is validated, the curves are those of the run that wrote it. All
    pictures are also written beside the report as PNG files.

    Args:
        enabled: whether a report is written.
        num_worst: how many images of the lowest quality are shown.
    """

    def __init__(self, *, enabled: bool = False, num_worst: int = 8) -> None:
        """Store the choices."""
        if num_worst < 0:
            raise ValueError(f"num_worst is {num_worst}; give 0 or more.")
        self.enabled = enabled
        self.num_worst = num_worst
        self._worst = WorstImages(0)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the images of the last validation."""
        self._worst = WorstImages(self.num_worst)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the images with the lowest panoptic quality."""
        if not self.enabled or trainer.sanity_checking:
            return
        assert isinstance(pl_module, PanopticModule)
        categories = pl_module.categories
        for index, (prediction, counts) in enumerate(zip(outputs["predictions"], outputs["counts"], strict=True)):
            self._worst.offer(
                batch["image_ids"][index],
                counts,
                lambda index=index, prediction=prediction: compare(batch, prediction, categories, index),  # type: ignore[misc]
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the report on the images of all processes."""
        log_dir = trainer.log_dir  # every rank takes part in finding it
        if not self.enabled or trainer.sanity_checking or log_dir is None:
            return
        assert isinstance(pl_module, PanopticModule) and pl_module.evaluation is not None
        worst = worst_first(gather_items(self._worst.images))[: self.num_worst]
        if not trainer.is_global_zero:
            return
        colors, names = legend(pl_module.categories)
        html = write_report(
            Path(log_dir) / "report",
            title=f"Validation of {_origin(trainer, log_dir)}",
            result=pl_module.evaluation.panoptic,
            names=names,
            colors=colors,
            curves=_curves(trainer, log_dir),
            worst=worst,
        )
        print(f"Report: {html}", flush=True)


def _origin(trainer: pl.Trainer, log_dir: str) -> str:
    """Return the name of what was validated: a checkpoint, or the run at an epoch."""
    if trainer.state.fn == TrainerFn.FITTING:
        return f"{log_dir}, epoch {trainer.current_epoch}"
    return str(trainer.ckpt_path or "an untrained network")


def _curves(trainer: pl.Trainer, log_dir: str) -> dict[str, Curve]:
    """Read the log of this run, or of the run that wrote the checkpoint; return nothing if there is no log."""
    folder = Path(log_dir)
    if trainer.state.fn != TrainerFn.FITTING and trainer.ckpt_path is not None:
        folder = Path(trainer.ckpt_path).parent.parent
    for logger in trainer.loggers:
        logger.save()
    path = folder / "metrics.csv"
    return read_curves(path) if path.is_file() else {}
