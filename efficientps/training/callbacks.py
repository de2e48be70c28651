"""What happens beside training, evaluation and prediction: tables, pictures, files and timing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch.distributed
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from efficientps.data.categories import Categories
from efficientps.data.panoptic_export import PanopticWriter
from efficientps.data.panoptic_format import PanopticEntry, write_panoptic_json
from efficientps.structures import ImageBatch, PanopticBatch, PanopticSegmentation, Prediction
from efficientps.training.evaluation import Evaluation
from efficientps.training.module import PanopticModule
from efficientps.visualization import Color, Picture, comparison, grid, overlay

MAX_PICTURE_WIDTH = 1024
"""Pixels; a comparison of three pictures is three times as wide."""


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
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(evaluation.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)


class ThroughputMonitor(Callback):
    """Logs how many images a second are trained on, over all devices, and what share of the time waits for data.

    CUDA runs asynchronously, so that single steps cannot be timed. Windows of ``trainer.log_every_n_steps`` batches
    can, because the loss is read once in each. Validation is not counted.
    """

    def __init__(self) -> None:
        """Start with an empty window."""
        self._figures: dict[str, Tensor] = {}
        self._restart(0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a window: a resumed run may go on inside an epoch, whose start it does not see."""
        self._restart(time.perf_counter())

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a window, which leaves validation out."""
        self._restart(time.perf_counter())

    def _restart(self, now: float) -> None:
        self._window_start = self._batch_end = now
        self._images, self._batches, self._wait = 0, 0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the wait since the last batch ended."""
        self._wait += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close the window when it is full, and log the figures of the last full one."""
        self._images += len(batch["image_ids"])
        self._batches += 1
        now = self._batch_end = time.perf_counter()
        window = trainer.log_every_n_steps  # type: ignore[attr-defined] # set outside the class
        if self._batches >= min(window, trainer.num_training_batches):
            seconds = now - self._window_start
            # On the CPU: Lightning puts a plain number on the device, and the program waits for the copy.
            self._figures = {
                "train/images_per_s": torch.tensor(self._images * trainer.world_size / seconds),
                "train/data_wait": torch.tensor(self._wait / seconds),
            }
            self._restart(now)
        # In every step: which of them reach the log file is the trainer's decision.
        pl_module.log_dict(self._figures, prog_bar=True, batch_size=1)


class ValidationOverlays(Callback):
    """Paints a few images of each validation: image, prediction and ground truth side by side.

    The pictures are JPEG files in ``overlays/`` in the folder of the run, one by one and all in ``grid.jpg``, and
    images in TensorBoard.

    Args:
        num_images: how many, spread evenly over the images of the first process; 0 paints none.
    """

    def __init__(self, *, num_images: int = 4) -> None:
        """Store the number."""
        if num_images < 0:
            raise ValueError(f"overlays.num_images is {num_images}; give 0 or more.")
        self.num_images = num_images

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the folder of the run, in which all processes take part; a quick trial run has none."""
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
        """Paint the first image of the batch, if the batch is among the chosen ones."""
        if self._log_dir is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        if batch_idx not in spread(self.num_images, int(trainer.num_val_batches[0])):
            return
        image_id = batch["image_ids"][0]
        picture = compare(batch, outputs["predictions"][0], _categories(pl_module))
        self._pictures.append(picture)
        self._save(picture, f"{image_id}.jpg", trainer)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"val/{image_id}", picture, trainer.global_step, dataformats="HWC")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the pictures of this validation together."""
        if self._pictures:
            print(f"Overlays: {self._save(grid(self._pictures), 'grid.jpg', trainer)}", flush=True)

    def _save(self, picture: Picture, name: str, trainer: pl.Trainer) -> Path:
        epoch = f"epoch{trainer.current_epoch:03d}" if trainer.state.fn == TrainerFn.FITTING else "val"
        path = Path(self._log_dir or ".") / "overlays" / epoch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=90)
        return path


def _categories(pl_module: pl.LightningModule) -> Categories:
    assert isinstance(pl_module, PanopticModule)
    return pl_module.categories


def spread(count: int, total: int) -> set[int]:
    """Return ``count`` numbers of 0 .. total - 1 at equal distances.

    >>> sorted(spread(3, 10)), sorted(spread(4, 2)), sorted(spread(0, 5))
    ([0, 3, 6], [0, 1], [])
    """
    return {index * total // count for index in range(count)} if total else set()


def valid_image(batch: ImageBatch, index: int) -> Picture:
    """Return one image of a batch without its padding, uint8 ``[h, w, 3]``."""
    height, width = batch["image_sizes"][index]
    return np.ascontiguousarray(batch["images"][index, :, :height, :width].permute(1, 2, 0).cpu().numpy())


def compare(batch: PanopticBatch, prediction: Prediction, categories: Categories, index: int = 0) -> Picture:
    """Paint one image of a batch, its prediction and its ground truth.

    All are painted at the size of the ground truth, or smaller where it is wider than ``MAX_PICTURE_WIDTH``.
    """
    target = PanopticSegmentation(batch["segment_ids"][index], batch["segments"][index])
    height, width = target.segment_ids.shape
    shrink = min(1.0, MAX_PICTURE_WIDTH / width)
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    picture = Image.fromarray(valid_image(batch, index))
    image = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    colors, names = legend(categories)
    return comparison(image, prediction.panoptic.resize(size), target.resize(size), colors, names)


def legend(categories: Categories) -> tuple[list[Color], list[str]]:
    """Return the colours and the names of classes, by train_id."""
    return [category.color for category in categories], [category.name for category in categories]


class PredictionWriter(Callback):
    """Writes what ``predict`` finds: panoptic PNGs and their JSON at the size of the image files, and overlays.

    Args:
        output_dir: folder for the results; ``predictions`` in the folder of the run by default.
        overlays: whether to paint each prediction with class names over its image.
    """

    def __init__(self, *, output_dir: str | None = None, overlays: bool = True) -> None:
        """Store the choices."""
        self.output_dir = output_dir
        self.overlays = overlays

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the folder, so that a place that cannot be written to is known before the work begins."""
        self._directory = Path(self.output_dir or Path(trainer.log_dir or trainer.default_root_dir) / "predictions")
        self._categories = _categories(pl_module)
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
                picture = overlay(valid_image(batch, index), prediction.panoptic, colors, names)
                Image.fromarray(picture).save(self._directory / "overlays" / f"{image_id}.png")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the JSON file, of all processes' images."""
        entries = gather(self._writer.entries)
        if trainer.is_global_zero:
            write_panoptic_json(self._writer.json_path, entries, self._categories)
            print(f"{len(entries)} predictions written to {self._directory}.", flush=True)


def gather(entries: Sequence[PanopticEntry]) -> list[PanopticEntry]:
    """Return the entries of all processes, sorted by image id."""
    parts: list[Sequence[PanopticEntry] | None] = [entries]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, entries)
    return sorted((entry for part in parts if part for entry in part), key=lambda entry: entry.image_id)
