"""The data of a run for Lightning (long: each argument of the constructor is a key of the configuration)."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from efficientps.data.augmentation.geometry import ResizeImage
from efficientps.data.augmentation.recipe import Augmentation
from efficientps.data.augmentation.transform import Transform
from efficientps.data.bad_samples import BadSamplePolicy, OnBadSample
from efficientps.data.dataset import DatasetOptions, PanopticDataset
from efficientps.data.formats.image_file import check_grey_range
from efficientps.data.grey_values import remark_on_samples
from efficientps.data.image_dataset import ImageDataset
from efficientps.data.loading.canvas_sizes import check_sizes, count_canvases
from efficientps.data.loading.loaders import Loading, make_loader
from efficientps.data.loading.samplers import EvaluationSampler, TrainingSampler, rank_and_world_size
from efficientps.data.loading.targets import training_batch
from efficientps.data.loading.worker_count import available_cores, workers_for
from efficientps.data.sources.images_at import images_at
from efficientps.structures import ImageBatch, PanopticBatch, TrainingBatch
from efficientps.structures.categories import Categories

SPLITS = ("train", "val")
"""Names of the splits that ``PanopticDataModule.dataset`` opens."""

_SPLITS_OF = {"fit": SPLITS, "validate": ("val",), "test": ("val",)}
"""The splits that a stage of Lightning reads with their annotations."""


@dataclass(kw_only=True, eq=False, repr=False)
class PanopticDataModule(LightningDataModule, ABC):
    """A data set for Lightning: training on "train", validation and test on "val", prediction on anything.

    A subclass gives the classes (``categories``) and opens the splits (``dataset``). Images travel as bytes, which the
    network normalises on its device; targets of training batches are derived there, from the segment ids.

    The constructor takes flat arguments, the keys of a configuration, and groups them in ``Augmentation``, ``Loading``
    and ``BadSamplePolicy``. A subclass with further arguments is a dataclass that names only these.

    Attributes:
        categories: the table of classes.

    Args:
        root: folder of the data.
        image_size: (height, width) of the training crop and of every training canvas, multiples of 32.
        train_size: (height, width) that whole images are fitted in before random scaling, with their aspect ratio kept;
            by default ``image_size``. For full-resolution training with a smaller crop, give 1024, 2048.
        eval_size: (height, width) that images are fitted in for evaluation and prediction, with their aspect ratio
            kept; by default ``train_size``. Predictions are compared at the size of the ground truth all the same.
        batch_size: training images per process.
        eval_batch_size: images per process in evaluation and prediction.
        num_workers: loading processes of each loader; 0 loads in the training process. "auto" takes the available
            cores, divided by the training processes on this machine, less one; at most 16, and no more than there are
            batches.
        scale_range: least and greatest factor of random scaling (0.5 to 2 in the published recipe).
        flip_prob: probability of mirroring.
        photometric: whether to jitter brightness, contrast, saturation and hue (not in the published recipe).
        transforms: further augmentation of training images: transforms of ``torchvision.transforms.v2``.
        albumentations: YAML or JSON file with an Albumentations pipeline, applied after the other augmentation.
        seed: seed of shuffling and augmentation.
        predict_path: an image, a folder of images, a COCO JSON that lists images (annotations are not needed), a video,
            or the name of a split ("train" or "val").
        predict_images: folder of the images that a JSON in ``predict_path`` lists; by default that of the JSON.
        on_bad_sample: treatment of a training image or map that cannot be read: "raise" ends the run, "skip" names it
            and takes the next one in order instead. Evaluation leaves nothing out.
        max_bad_samples: largest number of skipped samples; by default one in a hundred, and at least one.
        cache: folder with the decoded samples of each split (``SampleCache``), read instead of the image files.
        grey_range: the values of 16-bit grey images that become black and white, such as 0, 4095 for 12 bits; by
            default 0, 65535. Prediction reads images in the same way.

    Raises:
        ValueError: if a size is not positive, ``image_size`` is no multiple of 32, or a number is out of range.
    """

    root: str = "datasets/cityscapes"
    image_size: tuple[int, int] = Augmentation.crop_size
    train_size: tuple[int, int] | None = None
    eval_size: tuple[int, int] | None = None
    batch_size: int = Loading.batch_size
    eval_batch_size: int = Loading.eval_batch_size
    num_workers: int | Literal["auto"] = Loading.num_workers
    scale_range: tuple[float, float] = Augmentation.scale_range
    flip_prob: float = Augmentation.flip_prob
    photometric: bool = Augmentation.photometric
    transforms: list[v2.Transform] | None = None
    albumentations: str | None = Augmentation.albumentations
    seed: int = Loading.seed
    predict_path: str = "val"
    predict_images: str | None = None
    on_bad_sample: OnBadSample = BadSamplePolicy.on_bad_sample
    max_bad_samples: int | None = BadSamplePolicy.max_bad_samples
    cache: str | None = None
    grey_range: tuple[int, int] | None = None
    categories: Categories = field(init=False)

    def __post_init__(self) -> None:
        """Check the choices; nothing is read yet."""
        super().__init__()
        check_sizes(self.image_size, self.train_size, self.eval_size)
        check_grey_range(self.grey_range)
        self.image_size = (self.image_size[0], self.image_size[1])
        self.train_size = self.train_size or self.image_size
        self.eval_size = self.eval_size or self.train_size
        self.loading = Loading(
            batch_size=self.batch_size,
            eval_batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )
        self.bad_samples = BadSamplePolicy(on_bad_sample=self.on_bad_sample, max_bad_samples=self.max_bad_samples)
        self.augmentation = Augmentation(
            nominal_size=self.train_size,
            scale_range=self.scale_range,
            crop_size=self.image_size,
            flip_prob=self.flip_prob,
            photometric=self.photometric,
            transforms=self.transforms or (),
            albumentations=self.albumentations,
        )
        self.train_transform: Transform = self.augmentation.transform()
        self.eval_transform: Transform = ResizeImage(size=self.eval_size)
        self.train_dataset: PanopticDataset | None = None
        self.eval_dataset: PanopticDataset | None = None
        self.predict_dataset: ImageDataset | None = None
        self._next_batch = (0, 0)
        self._said_workers = False

    def state_dict(self) -> dict[str, Any]:
        """Return which batch training takes next, for a checkpoint: the one after the last that was trained on."""
        assert self.trainer is not None
        loop: Any = self.trainer.fit_loop
        begun, batch = loop.epoch_progress.current.started, loop.epoch_loop.batch_progress.current.processed
        # An epoch is over when all its batches are, and not when Lightning says so, which it does after any stop.
        whole = begun == 0 or batch >= self.trainer.num_training_batches
        epoch, batch = (begun, 0) if whole else (begun - 1, batch)
        return {"epoch": epoch, "batch": batch, "total_batch": self.loading.batch_size * self.trainer.world_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin with the batch that a checkpoint names."""
        self._next_batch = (int(state_dict["epoch"]), int(state_dict["batch"]))
        total_batch = self.loading.batch_size * self._rank_and_world_size()[1]
        if self._next_batch[1] and total_batch != state_dict["total_batch"]:
            rank_zero_warn(
                f"The checkpoint was written inside epoch {state_dict['epoch']} of a run with a total batch of "
                f"{state_dict['total_batch']} images, now it is {total_batch}: what is left of that epoch repeats or "
                "leaves out some images; from the next one on, all are seen once."
            )

    @abstractmethod
    def dataset(self, split: str, options: DatasetOptions) -> PanopticDataset:
        """Return the data set of a split, "train" or "val", which serves its samples by these options."""

    def check_files(self, split: str) -> None:
        """Raise what ``dataset`` would raise about a file or a folder of a split that does not exist.

        Nothing is read, so that a program can call it before it builds a network. By default nothing is checked; a
        subclass that knows its files overrides it.
        """

    def check_files_of(self, stage: str) -> None:
        """Check the files of all splits that a stage reads, see ``check_files``; for prediction there are none."""
        for split in _SPLITS_OF.get(stage, ()):
            self.check_files(split)

    def options(self, split: str) -> DatasetOptions:
        """Return how the data set of a split serves its samples: augmented in "train", resized in "val"."""
        return DatasetOptions(
            transform=self.train_transform if split == "train" else self.eval_transform,
            seed=self.seed,
            bad_samples=self.bad_samples,
            cache=None if self.cache is None else Path(self.cache, split),
            grey_range=self.grey_range,
        )

    def images_to_predict(self) -> ImageDataset:
        """Return the images that ``predict_path`` names; the name of a split goes before a path.

        Raises:
            FileNotFoundError: if it is neither an image nor a folder nor a split.
            ValueError: if a JSON or a video is not usable.
        """
        if self.predict_path in SPLITS:
            return self.dataset(self.predict_path, DatasetOptions(grey_range=self.grey_range)).images(self.eval_size)
        return images_at(
            self.predict_path,
            image_root=self.predict_images,
            size=self.eval_size,
            grey_range=self.grey_range,
            not_split_of=self.root,
        )

    def setup(self, stage: str) -> None:
        """Open what a stage needs, so that bad paths are reported before anything runs.

        Raises:
            FileNotFoundError: if a path does not exist.
            ValueError: if the annotations are not usable.
        """
        if stage == "fit":
            self.train_dataset = self.dataset("train", self.options("train"))
            if remark := remark_on_samples(self.train_dataset):
                rank_zero_warn(remark)
        if stage in ("fit", "validate", "test"):
            self.eval_dataset = self.dataset("val", self.options("val"))
        if stage == "predict":
            self.predict_dataset = self.images_to_predict()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of this process' share of shuffled, augmented batches of one shape.

        Lightning asks for it, and begins to iterate, before it restores its own progress: a resumed run therefore
        takes its first batch from the state of this module, and not from a state of the loader.
        """
        dataset = cast(PanopticDataset, self.train_dataset)
        rank, world_size = self._rank_and_world_size()
        batch_size, seed = self.loading.batch_size, self.loading.seed
        sampler = TrainingSampler(dataset, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        sampler.resume(*self._next_batch)
        return self._loader(dataset, sampler, batch_size, canvas=self.image_size, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of this process' share of "val", each image once over all processes.

        Raises:
            ValueError: if there are fewer images than processes; a process without images would make the others wait.
        """
        dataset = cast(PanopticDataset, self.eval_dataset)
        rank, world_size = self._rank_and_world_size()
        if len(dataset) < world_size:
            raise ValueError(
                f"The evaluation set has {len(dataset)} images, fewer than the {world_size} processes; "
                f"run at most {len(dataset)}."
            )
        sampler = EvaluationSampler(dataset, rank=rank, world_size=world_size)
        return self._loader(dataset, sampler, self.loading.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of "val"."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the loader of this process' share of the images to predict on."""
        dataset = cast(ImageDataset, self.predict_dataset)
        rank, world_size = self._rank_and_world_size()
        sampler = EvaluationSampler(dataset, rank=rank, world_size=world_size)
        return self._loader(dataset, sampler, self.loading.eval_batch_size)

    def transfer_batch_to_device(
        self, batch: PanopticBatch | ImageBatch, device: torch.device, dataloader_idx: int
    ) -> PanopticBatch | ImageBatch:
        """Move the tensors; Lightning's own transfer also visits hundreds of plain numbers one by one.

        From pinned memory the copies do not wait for the device. True maps move in training alone: evaluation reads
        them on the host (``Evaluator.update``).
        """
        batch["images"] = batch["images"].to(device, non_blocking=True)
        if self.trainer is not None and self.trainer.training:
            batch = cast(PanopticBatch, batch)
            batch["segment_ids"] = [segment_ids.to(device, non_blocking=True) for segment_ids in batch["segment_ids"]]
        return batch

    def on_after_batch_transfer(
        self, batch: PanopticBatch | ImageBatch, dataloader_idx: int
    ) -> PanopticBatch | ImageBatch | TrainingBatch:
        """Derive the targets of a training batch on its device; leave other batches as they are."""
        # Pinning memory turns plain tuples into lists.
        batch["image_sizes"] = [(height, width) for height, width in batch["image_sizes"]]
        batch["original_sizes"] = [(height, width) for height, width in batch["original_sizes"]]
        if self.trainer is not None and self.trainer.training:
            return training_batch(cast(PanopticBatch, batch), self.categories.num_stuff)
        return batch

    def num_evaluation_sizes(self) -> int | None:
        """Return how many sizes of canvas the images of validation and test have, each rounded up to multiples of 32.

        ``None`` where it is not known before the images are read: the annotations list no sizes, or nothing is open.
        """
        if self.eval_dataset is None:
            return None
        return count_canvases(self.eval_dataset.sizes(), self.eval_size)

    def _rank_and_world_size(self) -> tuple[int, int]:
        return rank_and_world_size(self.trainer)

    def _loader(
        self,
        dataset: Dataset[Any],
        sampler: TrainingSampler | EvaluationSampler,
        batch_size: int,
        *,
        canvas: tuple[int, int] | None = None,
        drop_last: bool = False,
    ) -> DataLoader[Any]:
        return make_loader(
            dataset,
            sampler,
            batch_size=batch_size,
            num_workers=self._workers(batches=math.ceil(len(sampler) / batch_size)),
            pin_memory=self.trainer.strategy.root_device.type == "cuda" if self.trainer else torch.cuda.is_available(),
            seed=self.loading.seed,
            canvas=canvas,
            drop_last=drop_last,
        )

    def _workers(self, *, batches: int) -> int:
        """Return the number of workers of a loader; print it once if it was chosen automatically."""
        if self.loading.num_workers != "auto":
            return self.loading.num_workers
        processes = self.trainer.num_devices if self.trainer else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        cores = available_cores()
        workers = workers_for(cores=cores, processes=processes)
        if not self._said_workers:
            self._said_workers = True
            rank_zero_info(
                f"num_workers is auto: up to {workers} for each loader, with {cores} CPU cores for "
                f"{processes} {'process' if processes == 1 else 'processes'} on this machine."
            )
        return min(workers, batches)
