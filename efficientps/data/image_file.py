"""Reading one image file of any common kind into the bytes that a network is fed with."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor


def read_image(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None, upright: bool = False) -> Tensor:
    """Read an image as uint8 ``[3, h, w]`` in RGB; grey, palette, alpha, CMYK and 16-bit images are converted.

    The returned tensor is a view of pixels stored row by row (channels last), which resizing prefers. Pillow decodes:
    of the decoders at hand it alone reports every truncated file.

    Args:
        path: the image file.
        size: if given, the (h, w) that the image must have; checked before anything is decoded.
        upright: whether to turn the image as its EXIF orientation says. Annotated images stay as they are stored,
            because their maps do.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not an image, is damaged, too large, of another size, or has floating-point pixels.
    """
    try:
        with Image.open(path) as image:
            if size is not None and (image.height, image.width) != tuple(size):
                raise ValueError(
                    f"Image '{path}' is {image.height}x{image.width} pixels (height x width) where its annotation says "
                    f"{size[0]}x{size[1]}; image and label must have one size."
                )
            array = np.array(_to_rgb(ImageOps.exif_transpose(image) if upright else image, path))
    except FileNotFoundError:
        raise FileNotFoundError(f"Image '{path}' does not exist.") from None
    except UnidentifiedImageError:
        raise ValueError(f"Image '{path}' is not an image file of a known kind.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Image '{path}' cannot be decoded ({error}); replace the file.") from None
    return torch.from_numpy(array).permute(2, 0, 1)


def _to_rgb(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """Convert any pixels to RGB bytes; 16-bit grey keeps its upper byte."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        upper = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(upper).convert("RGB")
    if image.mode == "F":
        raise ValueError(f"Image '{path}' has floating-point pixels; convert it to 8 or 16 bits per channel.")
    return image.convert("RGB")
