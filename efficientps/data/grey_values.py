"""The values of images with 16 bits per channel: which are seen, and which become black and white."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageFile

from efficientps.data.formats.image_file import FORMATS, open_image

if TYPE_CHECKING:  # its transforms are imported with torchvision, which takes two seconds
    from efficientps.data.dataset import PanopticDataset

_FEW = 2**15
"""A data set none of whose 16-bit values reaches this one uses less than half of the range."""

_SAMPLES = 8
"""Images of a data set that training looks at before it begins."""


class GreyValues(NamedTuple):
    """The least and the greatest value of an image with 16 bits per channel."""

    low: int
    high: int
    is_grey: bool = True  # of colour images Pillow gives the upper byte alone


def grey_values(path: str | os.PathLike[str]) -> GreyValues | None:
    """Return the values of an image file with 16 bits per channel; None for any other, and for one that is damaged."""
    try:
        with Image.open(path, formats=list(FORMATS)) as image:
            if not has_deep_pixels(image):
                return None
            is_grey = image.mode.startswith("I")
        with open_image(path) as image:
            channels = image.getextrema() if not is_grey else [image.getextrema()]
    except Exception:  # reading the image says what is wrong with it
        return None
    factor = 1 if is_grey else 256
    pairs = [(int(low), int(high)) for low, high in channels]  # type: ignore[arg-type, misc] # pairs by definition
    return GreyValues(factor * min(low for low, _ in pairs), factor * max(high for _, high in pairs), is_grey)


def has_deep_pixels(image: ImageFile.ImageFile) -> bool:
    """Return whether an opened image has 16 bits per channel."""
    return image.mode.startswith("I") or any(";16" in str(tile.args) for tile in image.tile)


def remark_on_range(values: Iterable[GreyValues | None], *, grey_range: tuple[int, int] | None) -> str | None:
    """Return a sentence if images with 16 bits per channel lose most of their levels as they are read.

    Args:
        values: those of each image.
        grey_range: the values that become black and white; None is the whole range of 16 bits.
    """
    found = [value for value in values if value is not None]
    grey = [value for value in found if value.is_grey]
    if not found:
        return None
    low, high = min(value.low for value in grey or found), max(value.high for value in grey or found)
    if not grey:
        return (
            None
            if high >= _FEW
            else (
                f"{len(found)} of the images looked at have colours of 16 bits per channel, whose values do not exceed "
                f"{high + 255}: they become 0 to {high >> 8} of 255 levels. Convert the images to 8 bits per channel."
            )
        )
    seen = f"{len(grey)} of the images looked at are grey with 16 bits, and their values are {low} to {high}"
    if grey_range is not None:
        black, white = grey_range
        is_inside = black <= low and high <= white
        return None if is_inside else f"{seen}: those outside of grey_range, {black} to {white}, are black or white."
    if high >= _FEW:
        return None
    bits = max(8, high.bit_length())
    return (
        f"{seen}: they become {low >> 8} to {high >> 8} of 255 levels of grey, because 65535 becomes 255. With "
        f"grey_range {[0, 2**bits - 1]} ({bits} bits) they use all levels."
    )


def remark_on_samples(dataset: PanopticDataset) -> str | None:
    """Return ``remark_on_range`` of a few images of a data set, evenly spread over it."""
    if dataset.options.cache is not None:
        return None
    entries = dataset.entries[:: max(1, -(-len(dataset.entries) // _SAMPLES))]
    return remark_on_range(
        (grey_values(entry.files[0]) for entry in entries if entry.files), grey_range=dataset.options.grey_range
    )
