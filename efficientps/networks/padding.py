"""Group images by their padded size, and normalise them; padding becomes zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

STRIDE = 32
"""Images are padded to multiples of it."""


def by_canvas(image_sizes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """Group the indices of images by their size ``(h, w)``, rounded up to what the networks take.

    >>> by_canvas([(60, 100), (60, 200), (64, 97)])
    {(64, 128): [0, 2], (64, 224): [1]}
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (height, width) in enumerate(image_sizes):
        canvas = (math.ceil(height / STRIDE) * STRIDE, math.ceil(width / STRIDE) * STRIDE)
        groups.setdefault(canvas, []).append(index)
    return groups


def normalized(images: Tensor, image_sizes: Sequence[tuple[int, int]], *, mean: Tensor, std: Tensor) -> Tensor:
    """Return float32 images ``(images - mean) / std``; padding becomes 0, the mean colour.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        image_sizes: valid ``(h, w)`` of each.
        mean: of each channel, float32 ``[3, 1, 1]``.
        std: standard deviation of each channel, float32 ``[3, 1, 1]``.
    """
    x = (images - mean) / std
    for image, (height, width) in zip(x, image_sizes, strict=True):
        # Nothing is launched where there is no padding, and one kernel where an assignment launches two.
        if height < image.shape[1]:
            image[:, height:].zero_()
        if width < image.shape[2]:
            image[:, :, width:].zero_()
    return x
