"""Write predictions: panoptic PNGs with their JSON, and overlays."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import Callback

from efficientps.atomic_file import atomic_file
from efficientps.data.formats.export import PanopticWriter, WrittenImage
from efficientps.data.formats.instance_export import InstanceFormat
from efficientps.data.formats.video_file import VideoWriter
from efficientps.data.formats.written_images import WrittenImages
from efficientps.data.image_dataset import ImageDataset
from efficientps.data.problems import Problem, Problems
from efficientps.data.sources.video import Video
from efficientps.structures import UnreadableImage
from efficientps.training.callbacks.comparison import categories_of, legend, valid_image
from efficientps.training.gathering import gather_items
from efficientps.visualization import Picture, overlay


class NoReadableImageError(ValueError):
    """None of the images to predict on can be read."""


class PredictionWriter(Callback):
    """Writes the results of ``predict``: panoptic PNGs and their JSON at the size of the image files, and overlays.

    An image that cannot be read is named, counted and left out. Overlays have the size at which the network saw the
    image; those of a video are a video.

    Args:
        output_dir: folder for the results; ``predictions`` in the folder of the run by default.
        overlays: whether to paint each prediction, with class names, over its image.
        instances: also write the instances as a COCO instance JSON with run lengths: "annotations" writes a whole
            document, ``instances.json``, and "results" the list that COCO's evaluation reads,
            ``instance_results.json``.
        strict: whether an image that cannot be read ends the prediction.

    Attributes:
        left_out: images that have no prediction, of all processes; known at the end.
    """

    def __init__(
        self,
        *,
        output_dir: str | None = None,
        overlays: bool = True,
        instances: InstanceFormat | None = None,
        strict: bool = False,
    ) -> None:
        """Store the choices."""
        self.output_dir = output_dir
        self.overlays = overlays
        self.instances = instances
        self.strict = strict
        self.left_out: list[Problem] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let the images go on where one cannot be read, and remove what a prediction that was killed has left."""
        if stage != "predict":
            return
        self._dataset = getattr(getattr(trainer, "datamodule", None), "predict_dataset", None)
        if isinstance(self._dataset, ImageDataset):
            self._dataset.keep_going = not self.strict
        if isinstance(self._dataset, Video) and trainer.world_size > 1:
            raise ValueError(
                f"A video is predicted by one process, which writes its frames in order; there are "
                f"{trainer.world_size} processes. Set devices to 1."
            )
        if trainer.world_size > 1:
            directory = self._find_directory(trainer)
            if trainer.is_global_zero:
                WrittenImages.remove_all(directory)  # before any process begins: there is a barrier after this hook

    def _find_directory(self, trainer: pl.Trainer) -> Path:
        """Return the folder of the results; all processes must ask for it together."""
        return Path(self.output_dir or Path(trainer.log_dir or trainer.default_root_dir) / "predictions")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the folder now, so that a folder that cannot be written to is noticed before the first prediction."""
        self._directory = self._find_directory(trainer)
        self._categories = categories_of(pl_module)
        text_ids = self._dataset.text_ids if isinstance(self._dataset, ImageDataset) else ()
        self._writer = PanopticWriter(self._directory, self._categories, instances=self.instances, text_ids=text_ids)
        self._unreadable: list[UnreadableImage] = []
        several = trainer.world_size > 1
        self._shared = WrittenImages(self._directory, trainer.global_rank, trainer.world_size) if several else None
        self._video: VideoWriter | None = None
        if self.overlays and isinstance(self._dataset, Video):
            name = f"{self._dataset.entries[0].image_id.rpartition('_')[0]}_overlay.mp4"
            self._video = VideoWriter(self._directory / name, self._dataset.frames_per_second)
        elif self.overlays:
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
        self._unreadable += batch.get("unreadable", ())
        file_names = batch.get("file_names") or len(outputs) * [None]
        for index, (prediction, file_name) in enumerate(zip(outputs, file_names, strict=True)):
            image_id = batch["image_ids"][index]
            panoptic = prediction.panoptic.resize(batch["original_sizes"][index])
            self._writer.write(image_id, panoptic, image_file_name=file_name)
            if self._shared is not None:
                self._shared.append(self._writer.written[-1])
            if self.overlays:
                image = valid_image(batch, index)
                panoptic = prediction.panoptic.resize((image.shape[0], image.shape[1]))
                self._write_overlay(image_id, overlay(image, panoptic, *legend(self._categories)))

    def _write_overlay(self, image_id: str, picture: Picture) -> None:
        """Write an overlay as a file of its own, or as the next frame of a video."""
        if self._video is not None:
            self._video.write(picture)
            return
        with atomic_file(self._directory / "overlays" / f"{image_id}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the JSON file with the images of all processes, and say what was left out.

        Raises:
            NoReadableImageError: if no image could be read.
        """
        images = gather_items(self._writer.written)
        unreadable = gather_items(self._unreadable)
        if unreadable and not images:
            more = f" None of the {len(unreadable)} images can be read." if len(unreadable) > 1 else ""
            raise NoReadableImageError(f"{unreadable[0].reason}{more}")
        if trainer.is_global_zero:
            self._write_json(images)
            self._tell(unreadable)
        self._end(is_whole=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the JSON file of what is predicted so far, without which the PNGs would not say their classes.

        Of several processes, the others cannot be asked now; what they have written is read from their files.
        """
        writer = getattr(self, "_writer", None)  # the start may be what failed
        if not trainer.predicting or writer is None:
            return
        with suppress(OSError, ValueError):  # a full disk is the exception already
            images = writer.written if self._shared is None else self._shared.read()
            if images:
                self._write_json(images)
        with suppress(OSError, ValueError):
            self._end(is_whole=False)

    def _end(self, *, is_whole: bool) -> None:
        if self._video is not None:
            self._video.close()
            print(f"Overlays: {self._video.path}", flush=True)
        if self._shared is not None:
            self._shared.close(remove=is_whole)

    def _write_json(self, images: list[WrittenImage]) -> None:
        self._writer.close(sorted(images, key=lambda image: image.entry.image_id))
        print(f"{len(images)} predictions written to {self._directory}.", flush=True)

    def _tell(self, unreadable: list[UnreadableImage]) -> None:
        """Say which images have no prediction, and which files are no images."""
        self.left_out = [Problem(item.kind, item.file_name, text=item.reason) for item in unreadable]
        skipped: Sequence[Problem] = ()
        if isinstance(self._dataset, ImageDataset):
            self.left_out += self._dataset.left_out
            skipped = self._dataset.skipped
        if self.left_out:
            _print_problems("{} left out, without a prediction:", self.left_out, sys.stderr)
        if skipped:
            _print_problems("{} skipped:", skipped, sys.stdout)


def _print_problems(title: str, found: Sequence[Problem], stream: TextIO) -> None:
    lines = [title.format(len(found)), *Problems(found).lines("  ")]
    print("\n".join(lines), file=stream, flush=True)
