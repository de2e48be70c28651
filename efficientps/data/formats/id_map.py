"""Panoptic maps as PNG files whose colours are the segments' ids: the pixel ``R + 256 G + 65536 B``; 0 is void.

A file is untrusted: its format and its size are checked here before a pixel is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from efficientps.data.formats.image_file import MAX_PIXELS, UnusableImageError, open_image
from efficientps.data.formats.stripes import stripes

MAX_SEGMENT_ID = 256**3 - 1
"""The largest segment id that three bytes hold."""


def rgb_to_id(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Read segment ids from colours: uint8 ``[h, w, 3]`` to int32 ``[h, w]``.

    >>> rgb_to_id(np.array([[[145, 101, 0], [0, 0, 1]]], dtype=np.uint8)).tolist()
    [[26001, 65536]]
    """
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    ids: NDArray[np.int32] = red + 256 * green + 65536 * blue
    return ids


def id_to_rgb(segment_ids: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Write segment ids as colours: int32 ``[h, w]`` to uint8 ``[h, w, 3]``; the inverse of ``rgb_to_id``.

    Raises:
        ValueError: if an id is negative or does not fit three bytes.
    """
    if segment_ids.size and not (segment_ids.min() >= 0 and segment_ids.max() <= MAX_SEGMENT_ID):
        raise ValueError(
            f"Segment ids must lie in 0..{MAX_SEGMENT_ID} to be written as colours, "
            f"found {segment_ids.min()}..{segment_ids.max()}."
        )
    return np.stack([segment_ids & 255, segment_ids >> 8 & 255, segment_ids >> 16], axis=-1).astype(np.uint8)


def read_id_map(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Read the segment ids int32 ``[h, w]`` of a PNG file.

    Pillow decodes, although other decoders take two thirds of its time: it alone refuses every damaged PNG (cv2
    returns what it could read, torchvision ends the process).

    Args:
        path: the PNG file.
        max_pixels: larger maps are refused before anything is decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        UnusableImageError: if the file is not a whole PNG, is too large, or its pixels are not RGB triples of bytes.
        OSError: if disk, network or rights keep the file from being read.
    """
    with open_image(path, noun="Panoptic map", formats=("PNG",), max_pixels=max_pixels) as image:
        if image.mode not in ("RGB", "RGBA"):
            raise UnusableImageError(f"Panoptic map '{path}' has '{image.mode}' pixels; segment ids need RGB pixels.")
        if any("16" in str(tile[3]) for tile in image.tile):  # Pillow would drop the lower bytes
            raise UnusableImageError(f"Panoptic map '{path}' has 16-bit colours; segment ids need 8 bits per channel.")
        # Pillow keeps RGB in four bytes per pixel: read as little-endian words, these are the ids.
        words = np.frombuffer(image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA"), dtype="<i4")
        size = (image.height, image.width)
    ids: NDArray[np.int32] = (words & MAX_SEGMENT_ID).astype(np.int32, copy=False).reshape(size)
    return ids


def write_id_map(path: str | os.PathLike[str], segment_ids: NDArray[np.int32]) -> None:
    """Write segment ids int32 ``[h, w]`` as a PNG file."""
    size = (segment_ids.shape[0], segment_ids.shape[1])
    write_id_stripes(path, ((rows, segment_ids[rows]) for rows in stripes(size)), size)


def write_id_stripes(
    path: str | os.PathLike[str], of_rows: Iterable[tuple[slice, NDArray[np.int32]]], size: tuple[int, int]
) -> None:
    """Write segment ids that come in stripes as a PNG file; a large map as a whole would take ten times its memory.

    Args:
        path: the file.
        of_rows: rows of the map, and their ids, int32 ``[rows, w]``.
        size: (h, w) of the map.
    """
    picture = Image.new("RGB", (size[1], size[0]))
    for rows, segment_ids in of_rows:
        picture.paste(Image.fromarray(id_to_rgb(segment_ids)), (0, rows.start))
    picture.save(path, format="PNG", compress_level=1)
