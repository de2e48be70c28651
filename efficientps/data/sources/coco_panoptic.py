"""Any data set in the COCO panoptic format, whatever its classes, for training, evaluation and prediction."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from efficientps.data.dataset import DatasetOptions, PanopticDataset
from efficientps.data.entries import Entry, Reading
from efficientps.data.entry_table import EntryTable
from efficientps.data.formats.annotation_file import AnnotationFile, read_annotation_file
from efficientps.data.formats.annotation_table import AnnotationTable, PanopticEntry
from efficientps.data.formats.coco_categories import categories_of
from efficientps.data.formats.coco_json import entries_of
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.formats.image_file import read_image
from efficientps.data.formats.packed_text import PackedText
from efficientps.data.formats.safe_path import inside
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.sources.split_files import check_coco_split, check_folders
from efficientps.structures.categories import Categories


class CocoPanoptic(PanopticDataset):
    """Images with their panoptic maps: one JSON file, a folder of id maps, a folder of images.

    If the names in the JSON are not those of the image files, a subclass overrides ``image_path``.

    File names from the JSON stay inside their folders. Symbolic links inside these folders are followed: whoever can
    create one could also place the file itself there.
    """

    def __init__(
        self,
        *,
        annotation_file: str | os.PathLike[str] | AnnotationFile,
        map_root: str | os.PathLike[str],
        image_root: str | os.PathLike[str],
        categories: Categories,
        upright: bool = False,
        options: DatasetOptions | None = None,
    ) -> None:
        """Read and check the annotations.

        Args:
            annotation_file: COCO panoptic JSON: its path, or its content if it was read already.
            map_root: folder of the PNG files with segment ids.
            image_root: folder that ``image_path`` is relative to.
            categories: the table of classes; the JSON may have no other.
            upright: whether to turn images as their EXIF orientation says, for maps that were drawn on upright ones;
                as they are stored by default.
            options: how samples are served.

        Raises:
            FileNotFoundError: if the file or a folder does not exist.
            ValueError: if the JSON is not of the format, holds no image, or names a file outside the folders.
        """
        file = annotation_file if isinstance(annotation_file, AnnotationFile) else read_annotation_file(annotation_file)
        table = entries_of(file, categories)
        if not table:
            raise ValueError(f"Annotation file '{file.path}' holds no image.")
        check_folders(map_root, image_root, annotation_file=file.path)
        entries = EntryTable(
            source=os.fspath(file.path),
            image_root=os.fspath(image_root),
            map_root=os.fspath(map_root),
            image_ids=table.image_ids,
            image_names=self._image_names(table),
            map_names=table.map_names,
            sizes=table.sizes,
            segments=table.segments,
        )
        for name in entries.image_names:
            inside(image_root, name, file.path)
        super().__init__(entries, categories=categories, options=options)
        self.upright = upright
        self.variant = "upright" if upright else ""

    def image_path(self, entry: PanopticEntry) -> str:
        """Return the path of an image relative to the image root: the naming rule of the data set."""
        return entry.image_file_name

    def _image_names(self, table: AnnotationTable) -> PackedText:
        if type(self).image_path is CocoPanoptic.image_path:  # the common rule needs no entry of each image
            return table.image_names
        return PackedText(map(self.image_path, table))

    def read(self, entry: Entry) -> Reading:
        """Read the map, then the image, which must be of its size."""
        image_file, map_file = entry.files
        segment_ids = read_id_map(map_file, max_pixels=self.options.max_pixels)
        size = entry.size or (segment_ids.shape[0], segment_ids.shape[1])
        image = self._read_image_file(image_file, size)
        return Reading(image, torch.from_numpy(segment_ids), entry.segments or ())

    def read_image(self, entry: Entry) -> Tensor:
        """Read the image alone."""
        return self._read_image_file(entry.files[0], entry.size)

    def _read_image_file(self, path: str, size: tuple[int, int] | None) -> Tensor:
        options = self.options
        return read_image(
            path, size=size, upright=self.upright, max_pixels=options.max_pixels, grey_range=options.grey_range
        )


@dataclass(frozen=True, kw_only=True)
class CocoPanopticSplit:
    """Paths of the three parts of a split; relative paths start at the root of the data.

    Attributes:
        images: folder that the file names of the images are relative to.
        annotations: COCO panoptic JSON.
        maps: folder of the PNG files with segment ids; by default the JSON's path without its ending.
    """

    images: str
    annotations: str
    maps: str | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class CocoPanopticDataModule(PanopticDataModule):
    """A data set in the COCO panoptic format; its classes, and so the size of the network, come from its JSON.

    The table of classes is that of the training annotations, which are read when it is first asked for; those of "val"
    must agree with it. A program that has the table already, of a trained model, sets ``categories``. Images may be of
    any size and kind, all different: grey, palette, alpha and 16 bits are converted to RGB, batches are padded, with
    void.

    Args:
        root: folder that the paths of the splits are relative to.
        train: where the training images and their annotations lie.
        val: where the images of evaluation and their annotations lie.
        upright: whether to turn annotated images as their EXIF orientation says. Set it where the annotations were
            drawn on upright images; by default images are taken as they are stored, as COCO's are.
        image_size: (height, width) of the training crop and of every training canvas, multiples of 32.

    Raises:
        ValueError: as ``PanopticDataModule``.
    """

    root: str = "."
    train: CocoPanopticSplit
    val: CocoPanopticSplit
    upright: bool = False
    image_size: tuple[int, int] = (640, 640)

    @cached_property  # type: ignore[misc] # a field of the base class, which can be set
    def categories(self) -> Categories:  # type: ignore[override]
        """The table of classes.

        Raises:
            FileNotFoundError: if the training annotations do not exist.
            ValueError: if they list no usable classes.
        """
        return categories_of(self.annotations("train").head, self._path(self.train.annotations))

    def dataset(self, split: str, options: DatasetOptions) -> CocoPanoptic:
        """Return the data set of a split, "train" or "val"."""
        place = self.place(split)
        return CocoPanoptic(
            annotation_file=self.annotations(split),
            map_root=place.maps or Path(place.annotations).with_suffix(""),
            image_root=place.images,
            categories=self.categories,
            upright=self.upright,
            options=options,
        )

    def check_files(self, split: str) -> None:
        """Raise what ``CocoPanoptic`` raises about a file or a folder that does not exist."""
        if type(self).dataset is CocoPanopticDataModule.dataset:  # else a subclass may have other files
            place = self.place(split)
            check_coco_split(place.annotations, place.images, place.maps)

    def annotations(self, split: str) -> AnnotationFile:
        """Return the annotations of a split; a file is read when it is first asked for, and once.

        Raises:
            FileNotFoundError: if it does not exist.
            ValueError: if it is not JSON.
        """
        path = self.place(split).annotations
        if path not in self._files:
            self._files[path] = read_annotation_file(path)
        return self._files[path]

    @cached_property
    def _files(self) -> dict[str, AnnotationFile]:
        return {}

    def place(self, split: str) -> CocoPanopticSplit:
        """Return where the three parts of a split lie, with the root before each path."""
        place = {"train": self.train, "val": self.val}[split]
        return CocoPanopticSplit(
            images=str(self._path(place.images)),
            annotations=str(self._path(place.annotations)),
            maps=None if place.maps is None else str(self._path(place.maps)),
        )

    def _path(self, path: str) -> Path:
        return Path(self.root, path)
