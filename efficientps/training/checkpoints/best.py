"""Keep the checkpoints with the best metric, over all parts of a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from efficientps.training.checkpoints.resolve import is_own


class BestCheckpoints(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint``, which ranks the checkpoints of all parts of a run.

    A resumed run has a folder of its own, and Lightning's class then starts counting anew: it would keep the best of
    each part of a run. Here all parts count; files of an earlier part are kept even when later ones are better. Their
    names are read from a checkpoint, so that only those of checkpoints below the folder of the runs are used.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Store the folder of the runs."""
        super().setup(trainer, pl_module, stage)
        self._root = trainer.default_root_dir

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best checkpoints of the earlier parts that still exist."""
        found = {path: score for path, score in state_dict["best_k_models"].items() if is_own(Path(path), self._root)}
        best_first = sorted(found, key=lambda path: float(found[path]), reverse=self.mode == "max")
        kept = best_first if self.save_top_k == -1 else best_first[: self.save_top_k]
        self.best_k_models = {path: found[path] for path in kept}
        if kept:
            self.best_model_path, self.best_model_score = kept[0], found[kept[0]]
            self.kth_best_model_path, self.kth_value = kept[-1], found[kept[-1]]
