"""Keep the checkpoints with the best metric, also when the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from efficientps.training.checkpoints.last import validation_is_due
from efficientps.training.checkpoints.resolve import is_rated


class BestCheckpoints(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint``, which finds its files again when the folder of the run has moved.

    Lightning's class compares paths as they were written. This one looks for the names in its own folder, so that names
    in a checkpoint, which is an untrusted file, never lead anywhere else.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after a validation, but not after one that is made because the run stops.

        A run that goes on from there does not know that one.
        """
        added = trainer.state.fn == TrainerFn.FITTING and trainer.should_stop and not validation_is_due(trainer)
        if trainer.sanity_checking or not added:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save after an epoch, but not where a stop has cut it short: its metric would be that of an earlier one."""
        if trainer.is_last_batch:
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best checkpoints that still exist."""
        folder = Path(self.dirpath or ".")
        named = {folder / Path(path).name: score for path, score in state_dict["best_k_models"].items()}
        found = {str(path): score for path, score in named.items() if is_rated(path) and path.is_file()}
        best_first = sorted(found, key=lambda path: float(found[path]), reverse=self.mode == "max")
        kept = best_first if self.save_top_k == -1 else best_first[: self.save_top_k]
        self.best_k_models = {path: found[path] for path in kept}
        if kept:
            self.best_model_path, self.best_model_score = kept[0], found[kept[0]]
            self.kth_best_model_path, self.kth_value = kept[-1], found[kept[-1]]
