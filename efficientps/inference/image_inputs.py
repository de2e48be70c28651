"""Convert the images that a caller gives (paths, PIL images, arrays, tensors) to tensors of RGB bytes."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from efficientps.data.formats.image_file import UnusableImageError, image_tensor, open_image, read_image

ImageInput: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
"""A path; a PIL image; an array uint8 ``[h, w, 3]``, ``[h, w, 4]`` (alpha is ignored) or ``[h, w]`` (grey); a tensor
``[3, h, w]``, uint8 or floating point within [0, 1]. Colours are in the order red, green, blue."""

_KINDS = "a path, a PIL image, an array or a tensor"


def is_one_image(value: object) -> bool:
    """Return whether a value is one image; any other iterable is a list of images."""
    return isinstance(value, str | bytes | os.PathLike | Image.Image | Tensor) or _is_array(value)


def check_input(image: Any, name: str) -> None:
    """Refuse an image that cannot be used, as far as that shows before its pixels are decoded.

    Args:
        image: any value.
        name: what messages call an image that is no path.

    Raises:
        FileNotFoundError: if there is no file at a path.
        TypeError: if the value is none of the types of ``ImageInput``.
        ValueError: if a file is no image, or an array or tensor has another dtype or shape.
    """
    if isinstance(image, str | os.PathLike):
        with open_image(image):
            return
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(f"{name} is a tensor of shape {list(image.shape)}; give [3, h, w], or a list of these.")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ValueError(f"{name} is a tensor of {image.dtype}; give uint8, or floating point within [0, 1].")
    elif _is_array(image):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)) or 0 in image.shape:
            raise ValueError(
                f"{name} is an array of shape {list(image.shape)}; give [h, w, 3], [h, w, 4] or [h, w], "
                "or a list of these."
            )
        if image.dtype != "uint8":
            raise ValueError(f"{name} is an array of {image.dtype}; give uint8, values from 0 to 255.")
    elif not isinstance(image, Image.Image):
        raise TypeError(f"{name} is of type {type(image).__name__}; give {_KINDS}, or a list of these.")


def read_input(image: Any, name: str, *, grey_range: tuple[int, int] | None = None) -> Tensor:
    """Return an image as uint8 ``[3, h, w]`` in RGB, in CPU memory; files and PIL images are turned upright.

    The bytes of a pixel lie side by side, whatever the image was: resizing then rounds alike for all types of input.

    Args:
        image: one of the types of ``ImageInput``.
        name: what messages call an image that is no path.
        grey_range: the values of 16-bit grey files and PIL images that become 0 and 255; by default 0 and 65535.

    Raises:
        FileNotFoundError: if there is no file at a path.
        TypeError: if the value is none of the types of ``ImageInput``.
        ValueError: if it is not an image, is damaged or too large, or has another dtype, shape or range of values.
        OSError: if disk, network or rights keep the file from being read.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, upright=True, grey_range=grey_range)
    check_input(image, name)
    if isinstance(image, Tensor):
        return _from_tensor(image, name)
    if isinstance(image, Image.Image):
        try:
            return image_tensor(image, name=name, upright=True, grey_range=grey_range)
        except UnusableImageError:
            raise
        except (OSError, SyntaxError, ValueError) as error:  # an image of Pillow may not be decoded yet
            raise UnusableImageError(f"{name} cannot be decoded ({error}); open another file.") from None
    return image_tensor(Image.fromarray(image).convert("RGB"), name=name, upright=False)


def _from_tensor(image: Tensor, name: str) -> Tensor:
    pixels = image.detach().cpu().permute(1, 2, 0)
    if pixels.is_floating_point():
        pixels = pixels.float()
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # NaN fails every comparison
            raise ValueError(
                f"{name} is a floating-point tensor with values from {low:.4g} to {high:.4g}; give values within "
                "[0, 1] that are not normalised, because the network normalises them."
            )
        pixels = (pixels * 255).round().to(torch.uint8)
    return pixels.contiguous().permute(2, 0, 1)


def _is_array(value: object) -> bool:
    # Asked for its array, an image of Pillow would decode its file.
    return not isinstance(value, Image.Image) and hasattr(value, "__array_interface__")
