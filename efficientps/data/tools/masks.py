"""Masks of images: which files hold the class of each pixel and the number of its instance, and what their values mean.

The masks of an image are one of four kinds:

- ``pair``: a map of classes and a map of instance numbers, where 0 is no instance;
- ``channels``: one PNG with the class in its first channel and the instance number in the others (green + 256 blue, or
  the alpha of a grey PNG), where 0 is no instance;
- ``ids``: one PNG of the kind of Cityscapes' ``instanceIds``: below 1000 the class of a pixel without an instance, from
  1000 on 1000 times the class and the instance's number, which may be 0;
- ``components``: a map of classes alone; each connected part of a thing class is an instance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from efficientps.data.formats.image_file import UnusableImageError, open_image
from efficientps.data.formats.label_map import check_size, read_label_map
from efficientps.data.hidden_files import visible
from efficientps.data.sources.image_folder import IMAGE_EXTENSIONS
from efficientps.data.sources.image_ids import folded, image_id_of
from efficientps.data.tools.segments_of_masks import NO_CLASS, NO_INSTANCE, LabelMap, Uncounted
from efficientps.structures.categories import Categories

MaskKind: TypeAlias = Literal["pair", "channels", "ids", "components"]


@dataclass(frozen=True, kw_only=True)
class MaskFiles:
    """Where images and masks lie; the masks of ``sub/a.jpg`` are ``sub/a.png`` in their folders.

    Attributes:
        images: folder of the images, with its subfolders.
        kind: how masks say classes and instances.
        masks: folder of the masks; for a "pair", of the maps of classes.
        instances: for a "pair", the folder of the maps of instance numbers.
        image_suffix: ending of the names of the images before their extension, as ``_leftImg8bit``; other files of the
            folder are no images.
        mask_suffix: what the names of the masks have in its place, as ``_gtFine_instanceIds``.
        instance_suffix: what the names of the maps of instance numbers have in its place.
    """

    images: Path
    kind: MaskKind
    masks: Path
    instances: Path | None = None
    image_suffix: str = ""
    mask_suffix: str = ""
    instance_suffix: str = ""

    def __post_init__(self) -> None:
        """Check that the folders exist.

        Raises:
            FileNotFoundError: if one does not.
            ValueError: if a pair has no folder of instance numbers, or another kind has one.
        """
        if (self.kind == "pair") != (self.instances is not None):
            raise ValueError(
                f"Masks of the kind '{self.kind}' {'need' if self.kind == 'pair' else 'have no'} instances."
            )
        for folder in filter(None, (self.images, self.masks, self.instances)):
            if not folder.is_dir():
                raise FileNotFoundError(f"Folder '{folder}' does not exist.")

    def sources(self) -> list[Source]:
        """Return the images, sorted, with their masks, which need not exist.

        Raises:
            FileNotFoundError: if the folder holds no image.
            ValueError: if two images would have one id, and so one mask.
        """
        found = [
            path for path in visible(self.images.rglob("*"), self.images) if path.suffix.lower() in IMAGE_EXTENSIONS
        ]
        sources = [self._source(path) for path in sorted(found) if path.stem.endswith(self.image_suffix)]
        masks = {file for source in sources for file in source.masks if file != source.image}
        sources = [source for source in sources if source.image not in masks]
        if not sources:
            raise FileNotFoundError(f"Folder '{self.images}' holds no image whose name ends in '{self.image_suffix}'.")
        names: dict[str, Path] = {}
        for source in sources:
            name = folded(source.image_id)
            if name in names:
                raise ValueError(
                    f"Images '{names[name]}' and '{source.image}' would both be called '{source.image_id}'; rename one."
                )
            names[name] = source.image
        return sources

    def _source(self, image: Path) -> Source:
        place = image.relative_to(self.images)
        stem = place.stem.removesuffix(self.image_suffix)
        masks = [self.masks / place.with_name(f"{stem}{self.mask_suffix}.png")]
        if self.instances is not None:
            masks.append(self.instances / place.with_name(f"{stem}{self.instance_suffix}.png"))
        return Source(image_id_of(place.with_name(f"{stem}{place.suffix}")), image, place.as_posix(), tuple(masks))


class Source(NamedTuple):
    """One image: its id, its file, its name in the JSON file, and its masks."""

    image_id: str
    image: Path
    file_name: str
    masks: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class MaskRules:
    """What the values of masks mean.

    Attributes:
        void: values that mean void, in addition to 0 where no class has this id; by default 255, unless a class has it.
        unlisted_is_void: whether classes that the table lacks are void; by default they are an error.
        uncounted: what pixels of a thing class without an instance become: a "crowd" region of their class, or "void".
        divisor: for "ids", 1000 as in Cityscapes: instances have the value class · divisor + number.
        min_area: for "components", parts of fewer pixels are no instances.
        upright: whether masks belong to images turned as their EXIF orientation says.
    """

    void: tuple[int, ...] | None = None
    unlisted_is_void: bool = False
    uncounted: Uncounted = "crowd"
    divisor: int = 1000
    min_area: int = 0
    upright: bool = False

    def void_values(self, categories: Categories) -> frozenset[int]:
        """Return the classes that are void.

        Raises:
            ValueError: if one of them is a class of the table.
        """
        known = {category.label_id for category in categories}
        if both := known & set(self.void or ()):
            raise ValueError(f"The value {min(both)} is both void and a class of the table; take it out of one.")
        return frozenset({0, 255} - known if self.void is None else {0, *self.void} - known)


def read_masks(
    source: Source, kind: MaskKind, size: tuple[int, int], *, void: Iterable[int], divisor: int
) -> tuple[LabelMap, LabelMap]:
    """Read the class of each pixel and the number of its instance.

    Args:
        source: the image and its masks.
        kind: how they say classes and instances.
        size: the (h, w) that they must have.
        void: values that mean void.
        divisor: for "ids", see ``MaskRules``.

    Returns:
        The classes int64 ``[h, w]``, ``NO_CLASS`` where void, and the numbers int64 ``[h, w]``, ``NO_INSTANCE`` where
        there is none; for "components" all are.

    Raises:
        FileNotFoundError: if there is no such file.
        UnusableImageError: if a file is damaged, of another size, or has other channels than its kind.
    """
    if kind == "channels":
        classes, numbers = _read_channels(source.masks[0], size)
    else:
        classes = read_label_map(source.masks[0], noun="Mask", size=size)
        numbers = np.zeros_like(classes)
    is_void = np.isin(classes, list(void))
    if kind == "pair":
        numbers = read_label_map(source.masks[1], noun="Mask of instances", size=size)
    if kind == "ids":
        is_counted = classes >= divisor
        numbers = np.where(is_counted, classes % divisor, NO_INSTANCE)
        classes = np.where(is_counted, classes // divisor, classes)
        is_void |= np.isin(classes, list(void))
    else:
        numbers[numbers == 0] = NO_INSTANCE
    classes[is_void] = NO_CLASS
    return classes, numbers


def _read_channels(path: Path, size: tuple[int, int]) -> tuple[LabelMap, LabelMap]:
    """Read classes and instance numbers of one PNG."""
    with open_image(path, noun="Mask", formats=("PNG",)) as image:
        if image.mode not in ("LA", "RGB", "RGBA"):
            raise UnusableImageError(
                f"Mask '{path}' has '{image.mode}' pixels; it needs a channel for the class and one for the instance."
            )
        if any("16" in str(tile[3]) for tile in image.tile):  # Pillow would drop the lower bytes
            raise UnusableImageError(f"Mask '{path}' has 16 bits per channel, where 8 are read; write two masks.")
        check_size(path, (image.height, image.width), size, noun="Mask")
        channels = np.asarray(image).astype(np.int64)
    numbers = channels[..., 1] + (256 * channels[..., 2] if channels.shape[2] > 2 else 0)
    return channels[..., 0].copy(), numbers
