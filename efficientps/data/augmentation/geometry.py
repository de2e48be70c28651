"""Geometric augmentation of (image uint8 ``[3, h, w]``, segment ids int32 ``[h, w]``).

Geometry is applied to these two alone; everything else is derived from the map afterwards. Each transform draws its
random numbers from the given generator alone, in an order that does not depend on the image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2


class ResizeImage:
    """Resizes the image to the largest size within ``size`` that keeps its aspect ratio; the map stays as it is.

    For evaluation: the network sees this size and its prediction is compared at the size of the ground truth.
    """

    def __init__(self, *, size: tuple[int, int] | None) -> None:
        """Store the (h, w) to fit in; None leaves images as they are."""
        self.size = size

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Resize the image, bilinearly and with antialiasing; nothing is random."""
        return resize_within(image, self.size), segment_ids


class RandomScaleCrop:
    """Scales by a random factor and cuts out a random window of the size of the training crop.

    The nominal size of the image is multiplied by a factor drawn uniformly from ``scale_range``. If the scaled image is
    smaller than the crop, the whole image is taken, and the batch pads it with void. Crops without any instance are
    kept. The window is cut from the stored image and resized once.
    """

    def __init__(
        self,
        *,
        crop_size: tuple[int, int],
        nominal_size: tuple[int, int] | None = None,
        scale_range: tuple[float, float] = (0.5, 2.0),
    ) -> None:
        """Prepare the transform.

        Args:
            crop_size: (h, w) of the result, at most.
            nominal_size: (h, w) that images are fitted in at factor 1, with their aspect ratio kept; None takes each
                image's own size.
            scale_range: least and greatest factor (0.5 and 2 in the published recipe).

        Raises:
            ValueError: if the factors are not positive or not in order.
        """
        if not 0 < scale_range[0] <= scale_range[1]:
            raise ValueError(f"scale_range is {scale_range}; give two positive factors, the smaller one first.")
        self.crop_size = crop_size
        self.nominal_size = nominal_size
        self.scale_range = scale_range

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Scale and crop."""
        scale = rng.uniform(*self.scale_range)
        row, column = rng.random(2)
        stored = (image.shape[-2], image.shape[-1])
        nominal = fit_within(stored, self.nominal_size)
        top, height, out_height = crop_window(stored[0], nominal[0] * scale, self.crop_size[0], row)
        left, width, out_width = crop_window(stored[1], nominal[1] * scale, self.crop_size[1], column)
        inside = (..., slice(top, top + height), slice(left, left + width))
        # Resizing takes half of the time in channels-last memory; a view of a part of an image is not in this layout.
        window = image[inside][None].contiguous(memory_format=torch.channels_last)[0]
        image = v2.resize(window, [out_height, out_width], antialias=True)
        return image, resize_ids(segment_ids[inside], (out_height, out_width))


class RandomHorizontalFlip:
    """Mirrors left and right with probability ``prob``."""

    def __init__(self, *, prob: float = 0.5) -> None:
        """Store the probability.

        Raises:
            ValueError: if it is not within [0, 1].
        """
        if not 0 <= prob <= 1:
            raise ValueError(f"flip_prob is {prob}; a probability lies within 0 and 1.")
        self.prob = prob

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Flip both, or none."""
        if rng.random() < self.prob:
            return v2.horizontal_flip(image), segment_ids.flip(-1)
        return image, segment_ids


def fit_within(size: tuple[int, int], limit: tuple[int, int] | None) -> tuple[int, int]:
    """Return the largest (h, w) within ``limit`` that has the aspect ratio of ``size``; ``size`` if there is no limit.

    >>> fit_within((1024, 2048), (512, 1024)), fit_within((333, 517), (512, 1024))
    ((512, 1024), (512, 795))
    """
    if limit is None:
        return size
    scale = min(limit[0] / size[0], limit[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_within(image: Tensor, limit: tuple[int, int] | None) -> Tensor:
    """Resize an image ``[3, h, w]`` to ``fit_within`` of its size and ``limit``, bilinearly with antialiasing."""
    resized: Tensor = v2.resize(image, list(fit_within((image.shape[-2], image.shape[-1]), limit)), antialias=True)
    return resized


def crop_window(stored: int, scaled: float, crop: int, position: float) -> tuple[int, int, int]:
    """Find along one axis which stored pixels a crop of the scaled image shows.

    Args:
        stored: pixels of the stored image.
        scaled: pixels of the scaled image; rounded here.
        crop: pixels of the crop.
        position: where the window lies, from 0 (first possible place) to just below 1 (last one).

    Returns:
        The first stored pixel of the window, the number of stored pixels in it, and the number of pixels that they
        become: ``crop``, or the whole scaled image where that is smaller.

    >>> crop_window(1024, scaled=1024.0, crop=512, position=0.5)  # scale 1: half of the image, in the middle
    (256, 512, 512)
    >>> crop_window(1024, scaled=256.0, crop=512, position=0.5)  # smaller than the crop: all of it
    (0, 1024, 256)
    """
    scaled = max(1, round(scaled))
    result = min(crop, scaled)
    window = min(stored, max(1, round(result * stored / scaled)))
    return int(position * (stored - window + 1)), window, result


def resize_ids(segment_ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ids ``[h, w]`` by nearest neighbour: each pixel takes the id at its own centre, exactly.

    >>> resize_ids(torch.tensor([[1, 2, 3, 4]]), (1, 2)).tolist()  # centres at 1.0 and 3.0
    [[2, 4]]
    """
    rows, columns = (
        ((np.arange(result) + 0.5) * (stored / result)).astype(np.int64)
        for result, stored in zip(size, segment_ids.shape, strict=True)
    )
    ids = segment_ids.numpy()
    # Rows are copied whole and columns one by one, so rows are removed first, or added last.
    if size[0] < segment_ids.shape[0]:
        return torch.from_numpy(ids.take(rows, axis=0).take(columns, axis=1))
    return torch.from_numpy(ids.take(columns, axis=1).take(rows, axis=0))
