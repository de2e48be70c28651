"""Maps with one number for each pixel: the class of each pixel, or the number of its instance."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from efficientps.data.formats.image_file import UnusableImageError, open_image


def read_label_map(
    path: str | os.PathLike[str], *, noun: str, size: tuple[int, int] | None = None
) -> NDArray[np.int64]:
    """Read the values int64 ``[h, w]`` of a grey PNG of 1, 8 or 16 bits, or the indices of one with a palette.

    Args:
        path: the file.
        noun: what messages call it.
        size: the (h, w) of its image, which it must have.

    Raises:
        FileNotFoundError: if there is no such file.
        UnusableImageError: if it is damaged, of another size, or has colours.
    """
    with open_image(path, noun=noun, formats=("PNG",)) as image:
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise UnusableImageError(f"{noun} '{path}' has '{image.mode}' pixels; one number for each pixel is read.")
        check_size(path, (image.height, image.width), size, noun=noun)
        return np.array(image).astype(np.int64)


def check_size(
    path: str | os.PathLike[str], found: tuple[int, int], size: tuple[int, int] | None, *, noun: str
) -> None:
    """Refuse a map whose (h, w) is not that of its image.

    Raises:
        UnusableImageError: if the sizes differ.
    """
    if size is not None and found != tuple(size):
        raise UnusableImageError(
            f"{noun} '{path}' is {found[0]}x{found[1]} pixels (height x width) where its image is {size[0]}x{size[1]}."
        )
