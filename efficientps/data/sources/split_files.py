"""Look for the files and folders of a split, without reading any; imports nothing that takes time."""

from __future__ import annotations

import os
from pathlib import Path

from efficientps.data.formats.json_file import missing


class MissingCityscapesError(FileNotFoundError):
    """Cityscapes, or one of its folders, does not exist.

    Attributes:
        argument: the argument that the error is about.
    """

    argument = "root"


class MissingMapsError(FileNotFoundError):
    """The panoptic maps of Cityscapes have not been made.

    Attributes:
        root: folder of Cityscapes.
    """

    def __init__(self, message: str, root: str | os.PathLike[str] = "") -> None:
        """Keep the folder."""
        super().__init__(message)
        self.root = root


def cityscapes_annotations(root: str | os.PathLike[str], split: str) -> Path:
    """Return the file with the panoptic annotations of a split of Cityscapes.

    Args:
        root: folder with ``leftImg8bit`` and ``gtFine``.
        split: "train" or "val".

    Raises:
        MissingCityscapesError: if the root or one of its folders is missing.
        MissingMapsError: if the panoptic maps have not been made.
    """
    if not Path(root).is_dir():
        raise MissingCityscapesError(f"Cityscapes folder '{root}' does not exist.")
    if not Path(root, "gtFine").is_dir() or not Path(root, "leftImg8bit", split).is_dir():
        raise MissingCityscapesError(f"Cityscapes folder '{root}' lacks 'gtFine' or 'leftImg8bit/{split}'.")
    annotation_file = Path(root, "gtFine", f"cityscapes_panoptic_{split}.json")
    if not annotation_file.is_file():
        raise MissingMapsError(
            f"Panoptic annotations '{annotation_file}' do not exist; they are not part of the download, and have "
            "to be made from its labels once.",
            root,
        )
    return annotation_file


def check_coco_split(annotations: str | Path, images: str | Path, maps: str | Path | None) -> None:
    """Check that the three parts of a COCO panoptic split exist.

    Args:
        annotations: the JSON.
        images: folder of the images.
        maps: folder of the PNG files with segment ids; by default the JSON's path without its ending.

    Raises:
        FileNotFoundError: if one does not.
    """
    if not os.path.exists(annotations):
        raise missing(annotations)
    check_folders(maps or Path(annotations).with_suffix(""), images, annotation_file=annotations)


def check_folders(*folders: str | os.PathLike[str], annotation_file: str | os.PathLike[str]) -> None:
    """Check that the folders exist that an annotation file refers to.

    Raises:
        FileNotFoundError: if one does not.
    """
    for folder in folders:
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"Folder '{folder}' does not exist; '{annotation_file}' refers to it.")
