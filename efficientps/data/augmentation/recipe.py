"""The augmentation of training images, as one set of options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchvision.transforms import v2

from efficientps.data.augmentation.adapters import AlbumentationsTransform, TorchvisionTransform
from efficientps.data.augmentation.geometry import RandomHorizontalFlip, RandomScaleCrop
from efficientps.data.augmentation.photometric import PhotometricJitter
from efficientps.data.augmentation.transform import Compose, Transform


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The changes of a training image and its map, in the order of the attributes.

    Attributes:
        nominal_size: (h, w) that whole images are fitted in at factor 1, with their aspect ratio kept; None takes each
            image's own size.
        scale_range: least and greatest factor of random scaling (0.5 and 2 in the published recipe).
        crop_size: (h, w) of the random crop.
        flip_prob: probability of mirroring.
        photometric: whether to jitter brightness, contrast, saturation and hue (not in the published recipe).
        transforms: transforms of ``torchvision.transforms.v2``.
        albumentations: YAML or JSON file with an Albumentations pipeline.
    """

    nominal_size: tuple[int, int] | None = None
    scale_range: tuple[float, float] = (0.5, 2.0)
    crop_size: tuple[int, int] = (512, 1024)
    flip_prob: float = 0.5
    photometric: bool = False
    transforms: Sequence[v2.Transform] = ()
    albumentations: str | None = None

    def transform(self) -> Transform:
        """Return the transform of image and map.

        Raises:
            FileNotFoundError: if there is no such Albumentations file.
            ValueError: if a number is out of range, or the Albumentations file is not usable.
        """
        return Compose(
            [
                RandomScaleCrop(crop_size=self.crop_size, nominal_size=self.nominal_size, scale_range=self.scale_range),
                RandomHorizontalFlip(prob=self.flip_prob),
                *([PhotometricJitter()] if self.photometric else []),
                *map(TorchvisionTransform, self.transforms),
                *([AlbumentationsTransform(path=self.albumentations)] if self.albumentations else []),
            ]
        )
