"""Read an image file of any common format as RGB bytes.

A file is untrusted: its format, its size and its checksums are checked before a pixel is decoded.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngStream
from torch import Tensor

from efficientps.data.formats.stripes import stripes

FORMATS = ("PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP")
"""Formats that are decoded. By default Pillow would try many more, and start Ghostscript for one of them (EPS)."""

MAX_PIXELS = 2**27
"""134 million pixels, 16384x8192, by default: Cityscapes has 2 million, large aerial tiles have 60. Decoding as many
takes 1 GiB. Pillow refuses from twice ``PIL.Image.MAX_IMAGE_PIXELS`` (179 million), whatever is asked for here."""

MAX_SIDE = 65_535
"""Longest side of an image in pixels: the longest that JPEG can express."""

MAX_FILE_BYTES = 2**31
"""Largest size of a file: twice that of ``MAX_PIXELS`` uncompressed pixels with 16 bits in 4 channels."""

NO_IMAGE, TOO_LARGE = "is not an image file of a known kind", "is too large"
"""Kinds of faults of an image file, as ``UnusableImageError`` has them."""

_SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""

_OF_THE_MACHINE = frozenset(
    {
        errno.EACCES,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOTCONN,
        errno.EPERM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""Errors of a disk, a network or a permission; they do not make the file a bad one."""


class UnusableImageError(ValueError):
    """An image file that is damaged, too large or not what it should be: one sentence that names the file.

    Attributes:
        kind: what is wrong, in a few words that files with the same fault share.
    """

    def __init__(self, message: str, *, kind: str = "is damaged") -> None:
        """Store the sentence and the kind of the fault."""
        super().__init__(message)
        self.kind = kind


class TurnedImageError(UnusableImageError):
    """An image that has the size of its annotation only if it is turned, or not turned, by its EXIF orientation.

    Attributes:
        argument: the argument that the error is about.
    """

    argument = "upright"


def read_image(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    upright: bool = False,
    max_pixels: int = MAX_PIXELS,
    grey_range: tuple[int, int] | None = None,
) -> Tensor:
    """Read an image as uint8 ``[3, h, w]`` in RGB; grey, palette, alpha, CMYK and 16-bit images are converted.

    The returned tensor is a view of pixels stored row by row (channels last), which resizing prefers. Pillow decodes,
    because it alone of the available decoders reports every truncated file.

    Args:
        path: the image file.
        size: if given, the (h, w) that the image must have; checked before anything is decoded.
        upright: whether to turn the image as its EXIF orientation says; ``size`` is then that of the turned image.
        max_pixels: larger images are refused before anything is decoded.
        grey_range: the values of 16-bit grey pixels that become 0 and 255; by default 0 and 65535.

    Raises:
        FileNotFoundError: if there is no such file.
        UnusableImageError: if the file is not an image, is damaged, too large, of another size, or has floating-point
            pixels.
        OSError: if disk, network or rights keep the file from being read.
    """
    with open_image(path, max_pixels=max_pixels) as image:
        if size is not None and (found := image_size(image, upright=upright)) != tuple(size):
            turned = "turned as its EXIF orientation says" if upright else "as it is stored"
            other = image_size(image, upright=not upright)
            hint = f"; with upright={not upright} it has that size" if other == tuple(size) else ""
            how = f", {turned}" if other != found else ""
            raise (TurnedImageError if hint else UnusableImageError)(
                f"Image '{path}' is {found[0]}x{found[1]} pixels (height x width{how}) where its annotation says "
                f"{size[0]}x{size[1]}; image and label must have one size{hint}.",
                kind="has another size than its annotation says",
            )
        return image_tensor(image, name=f"Image '{path}'", upright=upright, grey_range=grey_range)


def image_tensor(image: Image.Image, *, name: str, upright: bool, grey_range: tuple[int, int] | None = None) -> Tensor:
    """Convert an image of Pillow, as ``read_image`` converts what it reads, to uint8 ``[3, h, w]`` in RGB.

    Args:
        image: an image of any mode but floating-point pixels.
        name: what messages call the image.
        upright: whether to turn the image as its EXIF orientation says.
        grey_range: the values of 16-bit grey pixels that become 0 and 255; by default 0 and 65535.

    Raises:
        UnusableImageError: if the image has floating-point pixels.
    """
    if upright and exif_orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    array = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for rows in stripes((image.height, image.width)):  # converted as a whole, a large image takes three times as much
        stripe = (
            image if rows.stop - rows.start == image.height else image.crop((0, rows.start, image.width, rows.stop))
        )
        array[rows] = np.asarray(_to_rgb(stripe, name, grey_range))
    return torch.from_numpy(array).permute(2, 0, 1)


def image_size(image: Image.Image, *, upright: bool) -> tuple[int, int]:
    """Return the (h, w) of an opened image as it is stored, or once it is turned as its EXIF orientation says."""
    if upright and exif_orientation(image) in _SIDEWAYS:
        return image.width, image.height
    return image.height, image.width


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 (upright) where it has none."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _in_other_case(path: str | os.PathLike[str]) -> str:
    """Return a part of a sentence that names the file of the same name in other capitals, empty if there is none."""
    folder, name = os.path.split(path)
    try:
        twin = _names_by_lower(folder or ".", os.stat(folder or ".").st_mtime_ns).get(name.lower())
    except (OSError, ValueError):
        return ""
    return "" if twin in (None, name) else f"; its folder has '{twin}', and capitals matter"


@lru_cache(maxsize=2)
def _names_by_lower(folder: str, changed: int) -> dict[str, str]:
    """Return the names in a folder by their small letters, for as long as the folder stays as it is."""
    return {name.lower(): name for name in os.listdir(folder)}


@contextmanager
def open_image(
    path: str | os.PathLike[str],
    *,
    noun: str = "Image",
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[ImageFile.ImageFile]:
    """Open an image file, its pixels not decoded yet; whatever decoding raises inside the block names the file.

    Only PNG has checksums, and all of them are compared. Damaged bytes of a JPEG may decode to other colours.

    Args:
        path: the file; links are followed.
        noun: what messages call the file.
        formats: Pillow's names of the formats to accept.
        max_pixels: larger images are refused.

    Raises:
        FileNotFoundError: if there is no such file.
        UnusableImageError: if the file is no regular file, of another format, damaged, empty or too large.
        OSError: if disk, network or rights keep the file from being read.
    """
    try:
        _check_file(path, noun)
        with _open(path, formats) as image:
            height, width = image.height, image.width
            if not 0 < height <= MAX_SIDE or not 0 < width <= MAX_SIDE or height * width > max_pixels:
                raise UnusableImageError(
                    f"{noun} '{path}' is {height}x{width} pixels (height x width) where 1 to {MAX_SIDE} on each side "
                    f"and {max_pixels} in all are read; cut it into tiles.",
                    kind=TOO_LARGE,
                )
            if isinstance(image, PngImageFile):
                _compare_checksums(image)
            yield image
    except UnusableImageError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{noun} '{path}' does not exist{_in_other_case(path)}.") from None
    except UnidentifiedImageError:
        kind = "a PNG file" if tuple(formats) == ("PNG",) else "an image file of a known kind"
        is_twin = Path(path).name.startswith("._")
        twin = "; macOS wrote it beside another file, and it holds no pixels" if is_twin else ""
        raise UnusableImageError(f"{noun} '{path}' is not {kind}{twin}.", kind=NO_IMAGE) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableImageError(
            f"{noun} '{path}' has more pixels than Pillow reads, and at most {max_pixels} are read; cut it into tiles.",
            kind=TOO_LARGE,
        ) from None
    except MemoryError:
        raise MemoryError(f"There is not enough memory to decode {noun.lower()} '{path}'.") from None
    except Exception as error:  # Pillow raises a dozen types on damaged files
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnusableImageError(f"{noun} '{path}' cannot be decoded ({reason}); replace the file.") from None


def _open(path: str | os.PathLike[str], formats: Sequence[str]) -> ImageFile.ImageFile:
    """Open a file without Pillow's warning of a large image: the limit of this module is the one that counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=list(formats))


def _compare_checksums(image: PngImageFile) -> None:
    """Compare the checksums of a PNG from its pixels on, as ``Image.verify``, which ends the use of the object.

    Opening the file has compared those before its pixels; decoding compares none.
    """
    assert image.fp is not None
    pixels = image.tile[0].offset
    image.fp.seek(pixels - 8)
    PngStream(image.fp).verify()
    image.fp.seek(pixels)


def _check_file(path: str | os.PathLike[str], noun: str) -> None:
    """Refuse what is no regular file (opening a pipe would wait for ever), and files too large to be an image."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UnusableImageError(f"{noun} '{path}' is not a regular file.", kind="is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UnusableImageError(
            f"{noun} '{path}' has {status.st_size} bytes where at most {MAX_FILE_BYTES} are read; cut it into tiles.",
            kind=TOO_LARGE,
        )


def check_grey_range(grey_range: Sequence[int] | None) -> None:
    """Check the values of 16-bit grey pixels that become 0 and 255.

    Raises:
        ValueError: they are not two whole numbers from 0 on, the first of them the smaller one.
    """
    if grey_range is not None and (len(grey_range) != 2 or not 0 <= grey_range[0] < grey_range[1]):
        raise ValueError(
            f"grey_range is {list(grey_range)}; give the value that becomes black and a greater one that becomes "
            "white, such as 0 and 4095 for 12 bits."
        )


def _to_rgb(image: Image.Image, name: str, grey_range: tuple[int, int] | None) -> Image.Image:
    """Convert any pixels to RGB bytes; 16-bit grey keeps its upper byte, or what ``grey_range`` says."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if grey_range is None:
            levels = values >> 8
        else:
            low, high = grey_range
            levels = (510 * (values - low) + high - low) // (2 * (high - low))  # rounded
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnusableImageError(
            f"{name} has floating-point pixels; convert it to 8 or 16 bits per channel.",
            kind="has floating-point pixels",
        )
    return image.convert("RGB")
