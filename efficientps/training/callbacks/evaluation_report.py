"""Print the table of each validation and test, and write its figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from efficientps.atomic_file import write_text
from efficientps.metrics.evaluator import Evaluation
from efficientps.training.module import PanopticModule


class EvaluationReport(Callback):
    """Prints the table of each validation and test, and writes all its figures as JSON into the folder of the run.

    Args:
        per_class: whether the table lists every class.
    """

    def __init__(self, *, per_class: bool = False) -> None:
        """Store the choices."""
        self.per_class = per_class

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the validation, unless it was a sanity check."""
        if not trainer.sanity_checking:
            during_fit = f"_epoch{trainer.current_epoch:03d}" if trainer.state.fn == TrainerFn.FITTING else ""
            self._report(trainer, pl_module, f"val{during_fit}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the test."""
        self._report(trainer, pl_module, "test")

    def _report(self, trainer: pl.Trainer, pl_module: pl.LightningModule, title: str) -> None:
        assert isinstance(pl_module, PanopticModule)
        assert pl_module.evaluation is not None
        log_dir = trainer.log_dir  # every rank takes part in finding it
        if trainer.is_global_zero:
            print_table(pl_module.evaluation, title=title, per_class=self.per_class)
            if log_dir:
                write_json(Path(log_dir) / "evaluation" / f"{title}.json", pl_module.evaluation)


def print_table(evaluation: Evaluation, *, title: str, per_class: bool) -> None:
    """Print the table of an evaluation, clear of the progress bar's line."""
    print(f"\n{title}\n{evaluation.table(per_class=per_class)}", flush=True)


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Write all figures of an evaluation, fractions of 1, as JSON; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(evaluation.as_dict(), indent=2, allow_nan=False) + "\n")
