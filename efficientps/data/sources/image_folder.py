"""Images to predict on: one file, or a folder of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath

from torch import Tensor

from efficientps.data.entries import Entry
from efficientps.data.formats.image_file import MAX_PIXELS, check_grey_range, read_image
from efficientps.data.image_dataset import ImageDataset
from efficientps.data.problems import Problem
from efficientps.data.sources.image_ids import unique_ids

IMAGE_EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm"),
)
"""Files of a folder with these extensions (in either case) are images."""

OTHER_IMAGE_EXTENSIONS = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".gif", ".ico", ".icns", ".svg", ".psd"),
    *(".tga", ".exr", ".hdr", ".dds", ".pcx", ".xcf", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2"),
    *(".raw", ".dcm", ".fits"),
)
"""Files with these extensions are images of kinds that are not read."""

VIDEO_EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp")
"""Files with these extensions are videos."""


class ImageFolder(ImageDataset):
    """An image file, or all images of a folder and its subfolders in sorted order.

    Images are turned upright as their EXIF data says. Image ids name the outputs: the path within the folder without
    its extension, its parts joined by "_"; Cityscapes images keep the ids of their data set. Files and folders whose
    names begin with a dot are no data: macOS writes a "._photo.jpg" beside each "photo.jpg" on a foreign disk.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        size: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
        grey_range: tuple[int, int] | None = None,
    ) -> None:
        """List the images, and in ``left_out`` and ``skipped`` what else there is.

        Args:
            path: an image file or a folder.
            size: (h, w) that each image is fitted in, with its aspect ratio kept; None leaves images as they are.
            max_pixels: larger images are refused before anything is decoded.
            grey_range: the values of 16-bit grey images that become 0 and 255; by default 0 and 65535.

        Raises:
            FileNotFoundError: if there is nothing at ``path``, or the folder holds no image.
        """
        check_grey_range(grey_range)
        root = Path(path)
        left_out: list[Problem] = []
        skipped: list[Problem] = []
        if root.is_dir():
            names = sorted(_image_names(root, left_out, skipped))
            if not names:
                seen = f" ('{left_out[0].where}' is {left_out[0].kind})" if left_out else ""
                raise FileNotFoundError(
                    f"Folder '{path}' holds no image{seen}; files that end in {', '.join(IMAGE_EXTENSIONS)} are looked "
                    "for."
                )
            files = [root / name for name in names]
        elif root.exists():
            names, files = [PurePath(root.name)], [root]
        else:
            raise FileNotFoundError(f"There is neither an image nor a folder at '{path}'.")
        entries = [
            Entry(image_id, (str(file),), image_name=name.as_posix())
            for image_id, name, file in zip(unique_ids(names), names, files, strict=True)
        ]
        super().__init__(entries, partial(_read_upright, max_pixels=max_pixels, grey_range=grey_range), size=size)
        self.left_out, self.skipped = left_out, skipped


def _read_upright(entry: Entry, *, max_pixels: int, grey_range: tuple[int, int] | None) -> Tensor:
    return read_image(entry.files[0], upright=True, max_pixels=max_pixels, grey_range=grey_range)


def _image_names(root: Path, left_out: list[Problem], skipped: list[Problem]) -> Iterator[PurePath]:
    """Yield the images under a folder, relative to it; follow links to folders, but none twice.

    Args:
        root: the folder.
        left_out: gets a problem for each image of another kind, and for each folder that cannot be opened.
        skipped: gets a problem for each file that is no image, and for each hidden file or folder.
    """

    def closed(error: OSError) -> None:
        where = os.path.relpath(error.filename, root) if error.filename else str(root)
        left_out.append(Problem("a folder that cannot be opened", where, "change its rights"))

    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=closed):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        relative = PurePath(folder).relative_to(root)
        hidden = [f"{name}/" for name in subfolders if name.startswith(".")]
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in [*hidden, *names]:
            where, extension = os.path.join(*relative.parts, name), os.path.splitext(name)[1].lower()
            if name.startswith("."):
                skipped.append(Problem("hidden, its name begins with a dot", where, "rename it if it is an image"))
            elif extension in IMAGE_EXTENSIONS:
                yield relative / name
            elif extension in OTHER_IMAGE_EXTENSIONS:
                kind = f"an image of a kind that is not read ({extension})"
                left_out.append(Problem(kind, where, "convert it to JPEG or PNG"))
            elif extension in VIDEO_EXTENSIONS:
                skipped.append(Problem("a video", where, "predict on it by itself"))
            else:
                skipped.append(
                    Problem(
                        "no image by the ending of its name", where, "give it the ending of its kind if it is an image"
                    )
                )
