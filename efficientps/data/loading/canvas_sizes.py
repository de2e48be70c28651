"""Sizes of training crops and of the canvases that images of other sizes are evaluated on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from efficientps.data.augmentation.geometry import fit_within
from efficientps.data.formats.image_file import MAX_PIXELS
from efficientps.structures import COARSEST_STRIDE


def check_sizes(image_size: Sequence[int], train_size: Sequence[int] | None, eval_size: Sequence[int] | None) -> None:
    """Refuse sizes (h, w) that are not positive or too large, and a training crop that is no multiple of the stride.

    Raises:
        ValueError: naming the size, and for a crop a size near it that is allowed.
    """
    for name, size in (("image_size", image_size), ("train_size", train_size), ("eval_size", eval_size)):
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"{name} is {tuple(size)}; give height and width, both positive.")
        if size is not None and size[0] * size[1] > MAX_PIXELS:
            raise ValueError(f"{name} is {tuple(size)}, more than the {MAX_PIXELS} pixels that an image may have.")
    if any(extent % COARSEST_STRIDE for extent in image_size):
        rounded = tuple(max(1, round(extent / COARSEST_STRIDE)) * COARSEST_STRIDE for extent in image_size)
        raise ValueError(
            f"image_size is {image_size[0]}x{image_size[1]}; height and width must be multiples of {COARSEST_STRIDE}, "
            f"for instance {rounded[0]}x{rounded[1]}."
        )


def count_canvases(sizes: Iterable[tuple[int, int] | None], limit: tuple[int, int] | None) -> int | None:
    """Return how many sizes of canvas images have: fitted in ``limit``, then rounded up to multiples of the stride.

    Args:
        sizes: (h, w) of each image; None where it is not known.
        limit: (h, w) that images are fitted in, with their aspect ratio kept.

    Returns:
        None if the size of an image is not known.

    >>> count_canvases([(1024, 2048), (512, 1024), (100, 100)], limit=(512, 1024))
    2
    """
    canvases = set()
    for size in set(sizes):
        if size is None:
            return None
        canvases.add(tuple(math.ceil(extent / COARSEST_STRIDE) for extent in fit_within(size, limit)))
    return len(canvases)
