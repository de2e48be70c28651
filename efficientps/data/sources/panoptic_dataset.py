"""A data set in the COCO panoptic format, whatever its classes and file names."""

from __future__ import annotations

import os
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from efficientps.data.bad_samples import BadSamples, OnBadSample, TooManyBadSamplesError
from efficientps.data.cache import SampleCache
from efficientps.data.formats.coco_json import PanopticEntry, read_panoptic_json
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.formats.image_file import MAX_PIXELS, read_image
from efficientps.data.formats.safe_path import inside
from efficientps.data.loading.samplers import SampleIndex
from efficientps.structures import PanopticSample, Segment
from efficientps.structures.categories import Categories
from efficientps.structures.segment_runs import present_ids


class Transform(Protocol):
    """A change of an image and its map; everything random in it comes from ``rng``."""

    def __call__(self, image: Tensor, segment_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the image uint8 ``[3, h, w]`` and the map int32 ``[h, w]`` after the change."""
        ...


class PanopticDataset(Dataset[PanopticSample]):
    """Images with their panoptic maps: one JSON file, a folder of id maps, a folder of images.

    A new data set is a table of classes and, where the JSON does not name the image files as they are called, a
    subclass with its own ``image_path``.

    An item is a function of (seed, epoch, index) and of the files alone, whichever worker makes it; the sampler hands
    the epoch over as part of the index (plain integers mean epoch 0).

    With ``on_bad_sample="skip"`` the next sample in order that can be read takes the place of one that cannot, with
    the random numbers of the one that was asked for: the order of the others, and so resuming, stays as it is. That
    is for training, whose sampler asks with an epoch. A plain integer, as evaluation asks, always raises, because a
    figure over other images is another figure.

    File names from the JSON stay inside their folders. Symbolic links inside these folders are followed:
    whoever can create one could also place the file itself there.

    Attributes:
        categories: the table of classes.
        entries: what the JSON file says of each image, in the order of the indices.
        bad_samples: the samples that were skipped so far; None where none is.
    """

    def __init__(
        self,
        *,
        annotation_file: str | os.PathLike[str],
        map_root: str | os.PathLike[str],
        image_root: str | os.PathLike[str],
        categories: Categories,
        transform: Transform | None = None,
        seed: int = 0,
        on_bad_sample: OnBadSample = "raise",
        max_bad_samples: int | None = None,
        max_pixels: int = MAX_PIXELS,
        cache: str | os.PathLike[str] | None = None,
        upright: bool = False,
    ) -> None:
        """Read and check the annotations; images and maps are read and checked one by one, as they are asked for.

        Args:
            annotation_file: COCO panoptic JSON.
            map_root: folder of the PNG files with segment ids.
            image_root: folder that ``image_path`` is relative to.
            categories: the table of classes; the JSON may have no other.
            transform: applied to image and map.
            seed: seed of the transform.
            on_bad_sample: what to do about a training sample that cannot be read: "raise" or "skip".
            max_bad_samples: how many may be skipped; by default one in a hundred, and at least one.
            max_pixels: larger images and maps are refused before anything is decoded.
            cache: folder of decoded samples that ``write_cache`` made; samples are read from it alone.
            upright: whether to turn images as their EXIF orientation says, for maps that were drawn on upright ones;
                as they are stored by default.

        Raises:
            FileNotFoundError: if the file or a folder does not exist.
            ValueError: if the JSON is not of the format, holds no image, or names a file outside the folders; or if a
                choice is none of those above.
        """
        if on_bad_sample not in ("raise", "skip"):
            raise ValueError(f"on_bad_sample is {on_bad_sample!r}; give 'raise' or 'skip'.")
        self.categories = categories
        self.transform = transform
        self.seed = seed
        self.entries = read_panoptic_json(annotation_file, categories)
        if not self.entries:
            raise ValueError(f"Annotation file '{annotation_file}' holds no image.")
        for folder in (map_root, image_root, *([] if cache is None else [cache])):
            if not os.path.isdir(folder):
                raise FileNotFoundError(f"Folder '{folder}' does not exist; '{annotation_file}' refers to it.")
        self._image_files = [inside(image_root, self.image_path(entry), annotation_file) for entry in self.entries]
        self._map_files = [inside(map_root, entry.map_file_name, annotation_file) for entry in self.entries]
        self._max_pixels = max_pixels
        self._cache = None if cache is None else SampleCache(root=cache, max_pixels=max_pixels)
        self._upright = upright
        self.bad_samples = BadSamples(len(self.entries), limit=max_bad_samples) if on_bad_sample == "skip" else None

    def image_path(self, entry: PanopticEntry) -> str:
        """Return the path of an image relative to the image root: the naming rule of the data set."""
        return entry.image_file_name

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.entries)

    def __getitem__(self, index: int | SampleIndex) -> PanopticSample:
        """Load, check and transform one sample.

        Raises:
            FileNotFoundError: if the image or the map is missing.
            ValueError: if either is damaged, their sizes differ, or map and JSON disagree about the segments; and if
                more samples are bad than may be skipped.
        """
        skipping = isinstance(index, SampleIndex) and self.bad_samples is not None
        index, epoch = index if isinstance(index, SampleIndex) else (index, 0)
        index = range(len(self))[index]
        position, image, segment_ids = self._read_good(index) if skipping else (index, *self._read(index))
        entry = self.entries[position]
        segments = self._segments(entry)
        original_size = (image.shape[1], image.shape[2])
        if self.transform is not None:
            rng = np.random.default_rng((self.seed, epoch, index))
            image, segment_ids = self.transform(image, segment_ids, rng)
            present = set(present_ids(segment_ids.numpy()))
            segments = [segment for segment in segments if segment.id in present]
        return PanopticSample(
            image=image,
            segment_ids=segment_ids,
            segments=segments,
            image_id=entry.image_id,
            original_size=original_size,
        )

    def _segments(self, entry: PanopticEntry) -> list[Segment]:
        """Translate the segments of an entry from label ids to train ids."""
        segments = []
        for item in entry.segments:
            train_id = self.categories.train_id(item.category_id)
            is_thing = self.categories[train_id].is_thing
            segments.append(Segment(item.id, train_id, is_thing, is_crowd=item.is_crowd))
        return segments

    def _read_good(self, index: int) -> tuple[int, Tensor, Tensor]:
        """Read the sample at an index or else the next in order that can be read; return its own index with it."""
        assert self.bad_samples is not None
        for position in chain(range(index, len(self)), range(index)):
            try:
                return position, *self._read(position)
            except (FileNotFoundError, ValueError) as error:
                self.bad_samples.note(position, error, asked_for=position == index)
        raise TooManyBadSamplesError(f"None of the {len(self)} samples can be read.")

    def write_cache(self, index: int, cache: SampleCache) -> int:
        """Decode and check one sample, and write it into a cache unless it is there; return the bytes written.

        Raises:
            FileNotFoundError: a file of the sample is missing.
            ValueError: a file of the sample cannot be read, or does not fit the annotations.
        """
        image_id, sources = self.entries[index].image_id, self.files(index)
        if cache.has(image_id, sources, upright=self._upright):
            return 0
        return cache.write(image_id, *self._read(index), sources, upright=self._upright)

    def files(self, index: int) -> tuple[str, str]:
        """Return the image file and the map file of a sample."""
        return self._image_files[index], self._map_files[index]

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        """Read image and map as they are stored, and check that they fit each other and the JSON."""
        entry, map_file = self.entries[index], self._map_files[index]
        image = None
        if self._cache is not None:
            image, segment_ids = self._cache.read(entry.image_id, self.files(index), upright=self._upright)
        else:
            segment_ids = torch.from_numpy(read_id_map(map_file, max_pixels=self._max_pixels))
        if entry.size is not None and tuple(segment_ids.shape) != entry.size:
            raise ValueError(
                f"Panoptic map '{map_file}' is {segment_ids.shape[0]}x{segment_ids.shape[1]} pixels (height x width) "
                f"where its annotation says {entry.size[0]}x{entry.size[1]}; image and label must have one size."
            )
        listed = {segment.id for segment in entry.segments}
        present = set(present_ids(segment_ids.numpy()))
        if unlisted := present - listed:
            raise ValueError(
                f"Panoptic map '{map_file}' has pixels of segment {min(unlisted)}, which the annotation file does not "
                f"list for image '{entry.image_id}'; make the maps and the JSON again, together."
            )
        if absent := listed - present:
            raise ValueError(
                f"Panoptic map '{map_file}' has no pixel of segment {min(absent)}, which the annotation file lists for "
                f"image '{entry.image_id}'; make the maps and the JSON again, together."
            )
        if image is not None:
            return image, segment_ids
        size = (segment_ids.shape[0], segment_ids.shape[1])
        image_file = self._image_files[index]
        image = read_image(image_file, size=size, upright=self._upright, max_pixels=self._max_pixels)
        return image, segment_ids
