"""The sections of a configuration, each with the class whose arguments are its keys."""

from __future__ import annotations

import pytorch_lightning as pl

from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.training.callbacks.evaluation_report import EvaluationReport
from efficientps.training.callbacks.html_report import HtmlReport
from efficientps.training.callbacks.non_finite import NonFiniteGuard
from efficientps.training.callbacks.overlays import ValidationOverlays
from efficientps.training.callbacks.predictions import PredictionWriter
from efficientps.training.checkpoints.best import BestCheckpoints
from efficientps.training.checkpoints.last import LastCheckpoint
from efficientps.training.module import PanopticModule

CALLBACKS: dict[str, type[pl.Callback]] = {
    "checkpoint": BestCheckpoints,
    "last_checkpoint": LastCheckpoint,
    "non_finite": NonFiniteGuard,
    "report": EvaluationReport,
    "overlays": ValidationOverlays,
    "html_report": HtmlReport,
    "predictions": PredictionWriter,
}
"""Callbacks with a section of their own in the configuration, by its key."""

SECTIONS: dict[str, type] = {"model": PanopticModule, "data": PanopticDataModule, "trainer": pl.Trainer, **CALLBACKS}
"""The class of each section of the configuration, by its key."""
