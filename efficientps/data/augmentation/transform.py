"""The contract of augmentation: a seeded change of an image together with its map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor


class Transform(Protocol):
    """A change of an image and its map; everything random in it comes from ``rng``."""

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the image uint8 ``[3, h, w]`` and the map int32 ``[h, w]`` after the change."""
        ...


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        """Store the transforms in the order in which they apply."""
        self.transforms = list(transforms)

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Apply all."""
        for transform in self.transforms:
            image, segment_ids = transform(image, segment_ids, rng)
        return image, segment_ids
