"""Images to predict on: one file, or a folder of them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from efficientps.data.formats.image_file import MAX_PIXELS, read_image
from efficientps.data.sources.panoptic_dataset import Transform
from efficientps.structures import PanopticSample

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Files of a folder with these extensions (in either case) are images."""

_CITYSCAPES_SUFFIX = "_leftImg8bit"


class ImageFolder(Dataset[PanopticSample]):
    """An image file, or all images of a folder and its subfolders in sorted order, each with an all-void map.

    Images are turned upright as their EXIF data says. Image ids name the outputs: the path within the folder without
    its extension, its parts joined by "_"; Cityscapes images keep the ids of their data set.

    Attributes:
        files: the image files, in the order of the indices.
        image_ids: the id of each.
    """

    def __init__(
        self, *, path: str | os.PathLike[str], transform: Transform | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        """List the images.

        Args:
            path: an image file or a folder.
            transform: applied to each image and its all-void map; it must draw no random numbers.
            max_pixels: larger images are refused before anything is decoded.

        Raises:
            FileNotFoundError: if there is nothing at ``path``, or the folder holds no image.
            ValueError: if two images would have the same id.
        """
        root = Path(path)
        self.transform = transform
        self._max_pixels = max_pixels
        if root.is_dir():
            self.files = _image_files(root)
            if not self.files:
                raise FileNotFoundError(
                    f"Folder '{path}' holds no image; files that end in {', '.join(IMAGE_EXTENSIONS)} are looked for."
                )
            self.image_ids = _image_ids([file.relative_to(root) for file in self.files])
        elif root.exists():
            self.files = [root]
            self.image_ids = _image_ids([Path(root.name)])
        else:
            raise FileNotFoundError(f"There is neither an image nor a folder at '{path}'.")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> PanopticSample:
        """Read one image.

        Raises:
            FileNotFoundError: if the file is gone.
            ValueError: if it is not an image, is damaged or too large. A prediction leaves no image out.
        """
        image = read_image(self.files[index], upright=True, max_pixels=self._max_pixels)
        original_size = (image.shape[1], image.shape[2])
        segment_ids = torch.zeros(original_size, dtype=torch.int32)
        if self.transform is not None:
            image, segment_ids = self.transform(image, segment_ids, np.random.default_rng(0))
        return PanopticSample(
            image=image,
            segment_ids=segment_ids,
            segments=[],
            image_id=self.image_ids[index],
            original_size=original_size,
        )


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


def _image_id(path: Path) -> str:
    """Return the id of one image; a Cityscapes image has its city in its name already."""
    if path.stem.endswith(_CITYSCAPES_SUFFIX):
        return path.stem.removesuffix(_CITYSCAPES_SUFFIX)
    return "_".join(path.with_suffix("").parts)


def _image_ids(paths: list[Path]) -> list[str]:
    """Return one id for each relative path; where two differ in their extension alone, it becomes part of the id."""
    ids = [_image_id(path) for path in paths]
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
