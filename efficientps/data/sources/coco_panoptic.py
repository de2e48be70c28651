"""Any data set in the COCO panoptic format, whatever its classes, for training, evaluation and prediction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from efficientps.data.bad_samples import OnBadSample
from efficientps.data.formats.coco_categories import read_categories
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.sources.panoptic_dataset import PanopticDataset, Transform
from efficientps.structures import PanopticSample


@dataclass(frozen=True, kw_only=True)
class CocoPanopticSplit:
    """Where the three parts of a split lie; relative paths start at the root of the data.

    Attributes:
        images: folder that the file names of the images are relative to.
        annotations: COCO panoptic JSON.
        maps: folder of the PNG files with segment ids; by default the JSON's path without its ending.
    """

    images: str
    annotations: str
    maps: str | None = None


class CocoPanopticDataModule(PanopticDataModule):
    """A data set in the COCO panoptic format; its classes, and so the size of the network, come from its JSON.

    The table of classes is that of the training annotations; those of "val" must agree with it. Images may be of any
    size and kind, all different: grey, palette, alpha and 16 bits are converted to RGB, batches are padded, with void.
    ``predict_path`` may name a split, "train" or "val": it then means the images that its JSON lists.
    """

    def __init__(
        self,
        *,
        root: str = ".",
        train: CocoPanopticSplit,
        val: CocoPanopticSplit,
        upright: bool = False,
        image_size: tuple[int, int] = (640, 640),
        train_size: tuple[int, int] | None = None,
        eval_size: tuple[int, int] | None = None,
        batch_size: int = 3,
        eval_batch_size: int = 1,
        num_workers: int | Literal["auto"] = "auto",
        scale_range: tuple[float, float] = (0.5, 2.0),
        flip_prob: float = 0.5,
        photometric: bool = False,
        albumentations: str | None = None,
        seed: int = 0,
        predict_path: str = "val",
        on_bad_sample: OnBadSample = "raise",
        max_bad_samples: int | None = None,
        cache: str | None = None,
    ) -> None:
        """Read the table of classes; check and store the choices.

        Args:
            root: folder that the paths of the splits are relative to.
            train: where the training images and their annotations lie.
            val: where the images of evaluation and their annotations lie.
            upright: whether to turn annotated images as their EXIF orientation says. Set it where the annotations were
                drawn on upright images; by default images are taken as they are stored, as COCO's are.
            image_size: (height, width) of the training crop and of every training canvas, multiples of 32.
            train_size: (height, width) that whole images fit in before random scaling, their shape kept; by default
                ``image_size``.
            eval_size: (height, width) that images fit in for evaluation and prediction, their shape kept; by default
                ``train_size``. Predictions are compared at the size of the ground truth all the same.
            batch_size: training images per process.
            eval_batch_size: images per process in evaluation and prediction.
            num_workers: loading processes of each loader; 0 loads in the training process, "auto" follows the cores at
                hand (see ``PanopticDataModule``).
            scale_range: least and greatest factor of random scaling.
            flip_prob: probability of mirroring.
            photometric: whether to jitter brightness, contrast, saturation and hue.
            albumentations: YAML or JSON file with an Albumentations pipeline, applied after the other augmentation.
            seed: seed of shuffling and augmentation.
            predict_path: an image, a folder of images, or the name of a split ("train" or "val").
            on_bad_sample: what to do about a training image or map that cannot be read: "raise" ends the run, "skip"
                names it and takes the next in order instead. Evaluation and prediction leave nothing out.
            max_bad_samples: how many may be skipped; by default one in a hundred, and at least one.
            cache: folder with the folders "train" and "val" that ``datasets/prepare_cache.py`` made; training and
                evaluation read decoded samples from them, bit by bit the same, in place of image files.

        Raises:
            FileNotFoundError: if the training annotations do not exist.
            ValueError: if they list no usable classes, or as ``PanopticDataModule``.
        """
        super().__init__(
            root=root,
            image_size=image_size,
            train_size=train_size,
            eval_size=eval_size,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            scale_range=scale_range,
            flip_prob=flip_prob,
            photometric=photometric,
            albumentations=albumentations,
            seed=seed,
            predict_path=predict_path,
            on_bad_sample=on_bad_sample,
            max_bad_samples=max_bad_samples,
            cache=cache,
        )
        self.splits = {"train": train, "val": val}
        self.upright = upright
        self.categories = read_categories(self._path(train.annotations))

    def dataset(self, split: str, transform: Transform) -> PanopticDataset:
        """Return the data set of a split, "train" or "val"."""
        place = self.splits[split]
        annotations = self._path(place.annotations)
        return PanopticDataset(
            annotation_file=annotations,
            map_root=annotations.with_suffix("") if place.maps is None else self._path(place.maps),
            image_root=self._path(place.images),
            categories=self.categories,
            transform=transform,
            seed=self.seed,
            on_bad_sample=self.on_bad_sample,
            max_bad_samples=self.max_bad_samples,
            cache=None if self.cache is None else Path(self.cache, split),
            upright=self.upright,
        )

    def images_to_predict(self) -> Dataset[PanopticSample]:
        """Return the images that ``predict_path`` means; the name of a split comes first."""
        if self.predict_path in self.splits:
            return self.dataset(self.predict_path, self.eval_transform)
        return super().images_to_predict()

    def _path(self, path: str) -> Path:
        return Path(self.root, path)
