"""Write predictions: panoptic PNGs with their JSON, and overlays."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import Callback

from efficientps.atomic_file import atomic_file
from efficientps.data.formats.coco_json import PanopticEntry
from efficientps.data.formats.export import PanopticWriter, write_panoptic_json
from efficientps.training.callbacks.comparison import categories_of, legend, valid_image
from efficientps.training.gathering import gather_items
from efficientps.visualization import overlay


class PredictionWriter(Callback):
    """Writes the results of ``predict``: panoptic PNGs and their JSON at the size of the image files, and overlays.

    Overlays have the size at which the network saw the image.

    Args:
        output_dir: folder for the results; ``predictions`` in the folder of the run by default.
        overlays: whether to paint each prediction, with class names, over its image.
    """

    def __init__(self, *, output_dir: str | None = None, overlays: bool = True) -> None:
        """Store the choices."""
        self.output_dir = output_dir
        self.overlays = overlays

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the folder now, so that a folder that cannot be written to is noticed before the first prediction."""
        self._directory = Path(self.output_dir or Path(trainer.log_dir or trainer.default_root_dir) / "predictions")
        self._categories = categories_of(pl_module)
        self._writer = PanopticWriter(self._directory, self._categories)
        if self.overlays:
            (self._directory / "overlays").mkdir(exist_ok=True)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the predictions of a batch."""
        colors, names = legend(self._categories)
        for index, prediction in enumerate(outputs):
            image_id = batch["image_ids"][index]
            self._writer.write(image_id, prediction.panoptic.resize(batch["original_sizes"][index]))
            if self.overlays:
                image = valid_image(batch, index)
                panoptic = prediction.panoptic.resize((image.shape[0], image.shape[1]))
                picture = overlay(image, panoptic, colors, names)
                with atomic_file(self._directory / "overlays" / f"{image_id}.png") as temporary:
                    Image.fromarray(picture).save(temporary, format="PNG")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the JSON file with the images of all processes."""
        entries = gather_items(self._writer.entries)
        if trainer.is_global_zero:
            self._write_json(entries)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the JSON file of what is predicted so far, without which the PNGs would not say their classes.

        Of several processes, which cannot be asked now, each would write its own images alone; so none does.
        """
        writer = getattr(self, "_writer", None)  # the start may be what failed
        if trainer.predicting and trainer.world_size == 1 and writer is not None and writer.entries:
            with suppress(OSError):  # a full disk is the exception already
                self._write_json(writer.entries)

    def _write_json(self, entries: list[PanopticEntry]) -> None:
        write_panoptic_json(self._writer.json_path, sorted(entries, key=lambda entry: entry.image_id), self._categories)
        print(f"{len(entries)} predictions written to {self._directory}.", flush=True)
