"""Cityscapes: its table of classes, its file names, its tree and its loaders."""

from __future__ import annotations

import os
from pathlib import Path

from efficientps.data.dataset import DatasetOptions
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.image_dataset import ImageDataset
from efficientps.data.loading.datamodule import PanopticDataModule
from efficientps.data.sources.coco_panoptic import CocoPanoptic
from efficientps.data.sources.image_folder import ImageFolder
from efficientps.data.sources.split_files import cityscapes_annotations
from efficientps.structures.categories import Categories, Category

CITYSCAPES_CATEGORIES = Categories(
    [
        Category(7, "road", (128, 64, 128), is_thing=False),
        Category(8, "sidewalk", (244, 35, 232), is_thing=False),
        Category(11, "building", (70, 70, 70), is_thing=False),
        Category(12, "wall", (102, 102, 156), is_thing=False),
        Category(13, "fence", (190, 153, 153), is_thing=False),
        Category(17, "pole", (153, 153, 153), is_thing=False),
        Category(19, "traffic light", (250, 170, 30), is_thing=False),
        Category(20, "traffic sign", (220, 220, 0), is_thing=False),
        Category(21, "vegetation", (107, 142, 35), is_thing=False),
        Category(22, "terrain", (152, 251, 152), is_thing=False),
        Category(23, "sky", (70, 130, 180), is_thing=False),
        Category(24, "person", (220, 20, 60), is_thing=True),
        Category(25, "rider", (255, 0, 0), is_thing=True),
        Category(26, "car", (0, 0, 142), is_thing=True),
        Category(27, "truck", (0, 0, 70), is_thing=True),
        Category(28, "bus", (0, 60, 100), is_thing=True),
        Category(31, "train", (0, 80, 100), is_thing=True),
        Category(32, "motorcycle", (0, 0, 230), is_thing=True),
        Category(33, "bicycle", (119, 11, 32), is_thing=True),
    ]
)
"""The 19 evaluated classes with the label ids and colours of ``cityscapesscripts.helpers.labels``."""


class CityscapesPanoptic(CocoPanoptic):
    """One split of Cityscapes, in its official tree with the panoptic maps of ``cityscapesscripts``.

    ::

        root/leftImg8bit/{split}/{city}/{city}_{sequence}_{frame}_leftImg8bit.png
        root/gtFine/cityscapes_panoptic_{split}.json
        root/gtFine/cityscapes_panoptic_{split}/{city}_{sequence}_{frame}_gtFine_panoptic.png
    """

    def __init__(self, *, root: str | os.PathLike[str], split: str, options: DatasetOptions | None = None) -> None:
        """Read the annotations of a split.

        Args:
            root: folder with ``leftImg8bit`` and ``gtFine``.
            split: "train" or "val" (the labels of "test" are not public).
            options: how samples are served.

        Raises:
            MissingCityscapesError: if the root or one of its folders is missing.
            MissingMapsError: if the panoptic maps have not been made.
            ValueError: as ``CocoPanoptic``.
        """
        annotation_file = cityscapes_annotations(root, split)
        super().__init__(
            annotation_file=annotation_file,
            map_root=annotation_file.with_suffix(""),
            image_root=Path(root, "leftImg8bit", split),
            categories=CITYSCAPES_CATEGORIES,
            options=options,
        )

    def image_path(self, entry: PanopticEntry) -> str:
        """Return ``city/id_leftImg8bit.png``; the JSON's own names (``id_gtFine_leftImg8bit.png``) exist nowhere."""
        return f"{entry.image_id.split('_')[0]}/{entry.image_id}_leftImg8bit.png"


class CityscapesDataModule(PanopticDataModule):
    """Cityscapes, or another data set in the layout of its folders.

    The labels of Cityscapes' "test" split are not public: testing uses "val" as well, and the test split is predicted
    with ``predict_path="test"``. ``root`` is the folder with ``leftImg8bit`` and ``gtFine``.
    """

    categories: Categories = CITYSCAPES_CATEGORIES

    def dataset(self, split: str, options: DatasetOptions) -> CityscapesPanoptic:
        """Return the data set of a split, "train" or "val"."""
        return CityscapesPanoptic(root=self.root, split=split, options=options)

    def check_files(self, split: str) -> None:
        """Raise what ``CityscapesPanoptic`` raises about a file or a folder that does not exist."""
        if type(self).dataset is CityscapesDataModule.dataset:  # else a subclass may have other files
            cityscapes_annotations(self.root, split)

    def images_to_predict(self) -> ImageDataset:
        """Return the images that ``predict_path`` names; a split needs no annotations."""
        split = Path(self.root, "leftImg8bit", self.predict_path)
        if len(Path(self.predict_path).parts) == 1 and split.is_dir():
            return ImageFolder(path=split, size=self.eval_size, grey_range=self.grey_range)
        return super().images_to_predict()
