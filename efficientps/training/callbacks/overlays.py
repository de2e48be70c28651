"""Paint a few images of each validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn

from efficientps.atomic_file import atomic_file
from efficientps.training.callbacks.comparison import categories_of, compare
from efficientps.visualization import Picture, grid


class ValidationOverlays(Callback):
    """Paints a few images of each validation: image, prediction and ground truth side by side.

    The pictures are JPEG files in ``overlays/`` in the folder of the run, one by one and all in ``grid.jpg``, and
    images in TensorBoard.

    Args:
        num_images: number of images, spread evenly over the images of the first process; 0 paints none.
    """

    def __init__(self, *, num_images: int = 4) -> None:
        """Store the number."""
        if num_images < 0:
            raise ValueError(f"num_images is {num_images}; give 0 or more.")
        self.num_images = num_images

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the folder of the run, which all processes must ask for; with ``fast_dev_run`` there is none."""
        self._log_dir = trainer.log_dir
        self._pictures: list[Picture] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Paint the first image of the batch, if the batch is one of those to paint."""
        if self._log_dir is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        if batch_idx not in spread(self.num_images, int(trainer.num_val_batches[0])):
            return
        image_id = batch["image_ids"][0]
        picture = compare(batch, outputs["predictions"][0], categories_of(pl_module))
        self._pictures.append(picture)
        self._save(picture, f"{image_id}.jpg", trainer)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"val/{image_id}", picture, trainer.global_step, dataformats="HWC")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write all pictures of this validation as one grid."""
        if self._pictures:
            print(f"Overlays: {self._save(grid(self._pictures), 'grid.jpg', trainer)}", flush=True)

    def _save(self, picture: Picture, name: str, trainer: pl.Trainer) -> Path:
        epoch = f"epoch{trainer.current_epoch:03d}" if trainer.state.fn == TrainerFn.FITTING else "val"
        path = Path(self._log_dir or ".") / "overlays" / epoch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            Image.fromarray(picture).save(temporary, format="JPEG", quality=90)
        return path


def spread(count: int, total: int) -> set[int]:
    """Return ``count`` of the numbers 0 .. total - 1, evenly spaced.

    >>> sorted(spread(3, 10)), sorted(spread(4, 2)), sorted(spread(0, 5))
    ([0, 3, 6], [0, 1], [])
    """
    return {index * total // count for index in range(count)} if total else set()
