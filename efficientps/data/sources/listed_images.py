"""Images to predict on that a COCO JSON lists, with or without annotations: test-dev of COCO, for instance."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from torch import Tensor

from efficientps.data.entries import Entry
from efficientps.data.formats.annotation_elements import Faults, decode_image, has_text_id
from efficientps.data.formats.annotation_file import read_document
from efficientps.data.formats.image_file import MAX_PIXELS, TurnedImageError, check_grey_range, read_image
from efficientps.data.formats.safe_path import inside
from efficientps.data.image_dataset import ImageDataset


class ListedImages(ImageDataset):
    """The images that the list ``images`` of a COCO JSON names; their ids and names are those of the JSON.

    Annotations may be missing; of those that are there only the syntax is read. An image is taken as it is stored, as
    COCO's are, or turned as its EXIF orientation says where it has the size that the JSON states only then.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str],
        image_root: str | os.PathLike[str] | None = None,
        size: tuple[int, int] | None = None,
        max_pixels: int = MAX_PIXELS,
        grey_range: tuple[int, int] | None = None,
    ) -> None:
        """Read the list.

        Args:
            path: the JSON file.
            image_root: folder that the names of the images are relative to; by default that of the JSON.
            size: (h, w) that each image is fitted in, with its aspect ratio kept; None leaves images as they are.
            max_pixels: larger images are refused before anything is decoded.
            grey_range: the values of 16-bit grey images that become black and white, as ``read_image`` has it.

        Raises:
            FileNotFoundError: if the file or the folder does not exist.
            ValueError: if the file is not JSON, lists no image or one id twice, or names a file outside the folder.
        """
        check_grey_range(grey_range)
        root = Path(path).parent if image_root is None else Path(image_root)
        if not root.is_dir():
            raise FileNotFoundError(f"Folder '{root}' does not exist; the images that '{path}' lists are read from it.")
        images = read_document(path).images
        if not images:
            raise ValueError(f"'{path}' has no list 'images' with one image at least, as a COCO JSON has it.")
        entries: dict[str, Entry] = {}
        faults = Faults()
        for number, raw in enumerate(images):
            found = decode_image(raw, path, f"images[{number}].", faults)
            if found is None:
                raise ValueError(faults.sentences[0])
            image_id, file_name, image_size = found
            if image_id in entries:
                raise ValueError(f"'{path}' has the image id '{image_id}' twice.")
            file = inside(root, file_name, path)
            entries[image_id] = Entry(image_id, (file,), size=image_size, image_name=file_name)
        super().__init__(
            list(entries.values()), partial(_read_listed, max_pixels=max_pixels, grey_range=grey_range), size=size
        )
        self.text_ids = frozenset(image_id for image_id, raw in zip(entries, images, strict=True) if has_text_id(raw))


def _read_listed(entry: Entry, *, max_pixels: int, grey_range: tuple[int, int] | None) -> Tensor:
    read = partial(read_image, entry.files[0], size=entry.size, max_pixels=max_pixels, grey_range=grey_range)
    try:
        return read()
    except TurnedImageError:
        return read(upright=True)
