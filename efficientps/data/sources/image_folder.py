"""Images to predict on: one file, or a folder of them."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path

from torch import Tensor

from efficientps.data.entries import Entry
from efficientps.data.formats.image_file import MAX_PIXELS, check_grey_range, read_image
from efficientps.data.image_dataset import ImageDataset

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Files of a folder with these extensions (in either case) are images."""

_CITYSCAPES_SUFFIX = "_leftImg8bit"


class ImageFolder(ImageDataset):
    """An image file, or all images of a folder and its subfolders in sorted order.

    Images are turned upright as their EXIF data says. Image ids name the outputs: the path within the folder without
    its extension, its parts joined by "_"; Cityscapes images keep the ids of their data set.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        size: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
        grey_range: tuple[int, int] | None = None,
    ) -> None:
        """List the images.

        Args:
            path: an image file or a folder.
            size: (h, w) that each image is fitted in, with its aspect ratio kept; None leaves images as they are.
            max_pixels: larger images are refused before anything is decoded.
            grey_range: the values of 16-bit grey images that become 0 and 255; by default 0 and 65535.

        Raises:
            FileNotFoundError: if there is nothing at ``path``, or the folder holds no image.
            ValueError: if two images would have the same id.
        """
        check_grey_range(grey_range)
        root = Path(path)
        if root.is_dir():
            files = _image_files(root)
            if not files:
                raise FileNotFoundError(
                    f"Folder '{path}' holds no image; files that end in {', '.join(IMAGE_EXTENSIONS)} are looked for."
                )
            image_ids = _image_ids([file.relative_to(root) for file in files])
        elif root.exists():
            files = [root]
            image_ids = _image_ids([Path(root.name)])
        else:
            raise FileNotFoundError(f"There is neither an image nor a folder at '{path}'.")
        entries = [Entry(image_id, (str(file),)) for image_id, file in zip(image_ids, files, strict=True)]
        super().__init__(entries, partial(_read_upright, max_pixels=max_pixels, grey_range=grey_range), size=size)


def _read_upright(entry: Entry, *, max_pixels: int, grey_range: tuple[int, int] | None) -> Tensor:
    return read_image(entry.files[0], upright=True, max_pixels=max_pixels, grey_range=grey_range)


def _image_files(root: Path) -> list[Path]:
    """Return the images under a folder, following links to folders but none twice."""
    files: list[Path] = []
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        files += [Path(folder, name) for name in names if name.lower().endswith(IMAGE_EXTENSIONS)]
    return sorted(files)


def image_id_of(path: Path) -> str:
    """Return the id of one image, given its relative path; a Cityscapes image has its city in its name already.

    >>> image_id_of(Path("site/3.jpg")), image_id_of(Path("bonn/bonn_1_leftImg8bit.png"))
    ('site_3', 'bonn_1')
    """
    if path.stem.endswith(_CITYSCAPES_SUFFIX):
        return path.stem.removesuffix(_CITYSCAPES_SUFFIX)
    return "_".join(path.with_suffix("").parts)


def _image_ids(paths: list[Path]) -> list[str]:
    """Return one id for each relative path; where two differ in their extension alone, it becomes part of the id."""
    ids = [image_id_of(path) for path in paths]
    count = Counter(ids)
    ids = [
        f"{image_id}_{path.suffix[1:]}" if count[image_id] > 1 else image_id
        for image_id, path in zip(ids, paths, strict=True)
    ]
    first: dict[str, Path] = {}
    for image_id, path in zip(ids, paths, strict=True):
        if image_id in first:
            raise ValueError(f"Images '{first[image_id]}' and '{path}' would both be called '{image_id}'; rename one.")
        first[image_id] = path
    return ids
