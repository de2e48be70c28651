"""The base class of data sets for panoptic segmentation, whatever their format."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from efficientps.data.augmentation.transform import Transform
from efficientps.data.bad_samples import BadSamplePolicy, TooManyBadSamplesError
from efficientps.data.cache import SampleCache
from efficientps.data.entries import Entry, Reading, SegmentEntry
from efficientps.data.entry_table import EntryTable
from efficientps.data.formats.image_file import MAX_PIXELS, check_grey_range
from efficientps.data.image_dataset import ImageDataset
from efficientps.data.loading.samplers import SampleIndex
from efficientps.data.reading_check import check_reading
from efficientps.structures import PanopticSample, Segment
from efficientps.structures.categories import Categories
from efficientps.structures.segment_runs import present_ids

_MISTAKES = (AssertionError, AttributeError, MemoryError, NameError, NotImplementedError, TypeError)
"""Errors that a mistake in the code of ``read`` raises; they do not make a sample bad."""


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Options of reading samples, for a data set of any format.

    Attributes:
        transform: applied to image and map; None leaves them as they are stored.
        seed: seed of the transform.
        bad_samples: policy for training samples that cannot be read.
        cache: folder of decoded samples that ``PanopticDataset.write_cache`` filled; samples are then read from it
            alone.
        max_pixels: larger images and maps are refused before anything is decoded.
        grey_range: the values of 16-bit grey images that become 0 and 255; by default 0 and 65535.
    """

    transform: Transform | None = None
    seed: int = 0
    bad_samples: BadSamplePolicy = field(default_factory=BadSamplePolicy)
    cache: str | os.PathLike[str] | None = None
    max_pixels: int = MAX_PIXELS
    grey_range: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check the range of grey values."""
        check_grey_range(self.grey_range)


class PanopticDataset(Dataset[PanopticSample], ABC):
    """Images with their panoptic maps.

    A format is a subclass that hands its entries to this constructor and reads one of them in ``read``. Everything
    else is done here: translation of classes, checks, seeded augmentation, bad samples, cache.

    An item is a function of (seed, epoch, index) and of the files alone, whichever worker makes it; the sampler hands
    the epoch over as part of the index (plain integers mean epoch 0).

    If bad samples are skipped, the next readable sample in order takes the place of a bad one. It is augmented with the
    random numbers of the bad one, so that all other samples, and resumed runs, stay the same. Only indices with an
    epoch, as the training sampler gives them, are skipped. A plain integer, as evaluation gives it, always raises an
    error, because metrics over different images cannot be compared.

    Attributes:
        entries: the images, in the order of the indices.
        categories: the table of classes.
        options: how samples are served.
        bad_samples: the samples that were skipped so far; None if bad samples raise.
        variant: names the choices that change the pixels of an image, such as turning by EXIF; a cache of another
            variant is refused.
    """

    variant: str = ""

    def __init__(
        self, entries: Sequence[Entry], *, categories: Categories, options: DatasetOptions | None = None
    ) -> None:
        """Check the entries; images and maps are read and checked one by one in ``__getitem__``.

        Args:
            entries: at least one, in the order of the indices.
            categories: the table of classes.
            options: how samples are served; by default as they are stored.

        Raises:
            FileNotFoundError: if the folder of the cache does not exist.
            ValueError: if there is no entry, an image id occurs twice, or a segment has an unknown class.
        """
        options = options or DatasetOptions()
        if not entries:
            raise ValueError("The data set has no image.")
        table = entries if isinstance(entries, EntryTable) else None
        ids = (entry.image_id for entry in entries) if table is None else table.image_ids
        image_id, times = Counter(ids).most_common(1)[0]
        if times > 1:
            raise ValueError(f"The data set has {times} images with the id '{image_id}'; ids must be unique.")
        known = {category.label_id for category in categories}
        whole = table is not None and known.issuperset(np.unique(table.segments.category_ids).tolist())
        for entry in () if whole else entries:
            if not known.issuperset(segment.category_id for segment in entry.segments or ()):
                _translate(entry.segments or (), categories, entry)
        if options.cache is not None and not os.path.isdir(options.cache):
            raise FileNotFoundError(f"Folder '{options.cache}' of the cache does not exist.")
        self.entries = entries
        self.categories = categories
        self._label_ids = frozenset(known)
        self.options = options
        self.bad_samples = options.bad_samples.watch(len(entries))
        self._cache = None if options.cache is None else SampleCache(root=options.cache, max_pixels=options.max_pixels)

    @abstractmethod
    def read(self, entry: Entry) -> Reading:
        """Read image, map and segments of an entry, as they are stored.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is damaged or too large.
        """

    def read_image(self, entry: Entry) -> Tensor:
        """Read the image alone, uint8 ``[3, h, w]``, for prediction; formats with a file for it need not read the map.

        Raises:
            FileNotFoundError: as ``read``.
            ValueError: as ``read``.
        """
        return self.read(entry).image

    def images(self, size: tuple[int, int] | None) -> ImageDataset:
        """Return the images without their maps, for prediction; they are resized to fit in ``size`` (h, w)."""
        return ImageDataset(self.entries, self.read_image, size=size)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.entries)

    def __getitem__(self, index: int | SampleIndex) -> PanopticSample:
        """Load, check and transform one sample.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is damaged, image and map differ in size, or map and annotations disagree about the
                segments; and if more samples are bad than may be skipped.
        """
        skipping = isinstance(index, SampleIndex) and self.bad_samples is not None
        index, epoch = index if isinstance(index, SampleIndex) else (index, 0)
        index = range(len(self))[index]
        position, reading = self._read_good(index) if skipping else (index, self.checked(index))
        entry = self.entries[position]
        image, segment_ids, listed = reading
        segments = _translate(listed, self.categories, entry)
        original_size = (image.shape[1], image.shape[2])
        if self.options.transform is not None:
            rng = np.random.default_rng((self.options.seed, epoch, index))
            image, segment_ids = self.options.transform(image, segment_ids, rng)
            present = set(present_ids(segment_ids.numpy()))
            segments = [segment for segment in segments if segment.id in present]
        return PanopticSample(
            image=image,
            segment_ids=segment_ids,
            segments=segments,
            image_id=entry.image_id,
            original_size=original_size,
        )

    def checked(self, index: int) -> Reading:
        """Read a sample, from the cache if there is one, and check that its parts fit each other and its entry.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file cannot be read, or map, image and annotations disagree.
        """
        entry = self.entries[index]
        if self._cache is None:
            reading = self._read(entry)
        else:
            image, segment_ids, segments = self._cache.read(entry.image_id, entry.files, variant=self._variant)
            reading = Reading(image, segment_ids, segments if entry.segments is None else entry.segments)
        check_reading(entry, reading, self._label_ids)
        return reading

    def write_cache(self, index: int, cache: SampleCache) -> int:
        """Decode and check one sample, and write it into a cache unless it is there; return the bytes written.

        Raises:
            FileNotFoundError: a file of the sample is missing.
            ValueError: a file of the sample cannot be read, or does not fit the annotations.
        """
        entry = self.entries[index]
        if cache.has(entry.image_id, entry.files, variant=self._variant):
            return 0
        reading = self.checked(index)
        segments = reading.segments if entry.segments is None else ()
        return cache.write(
            entry.image_id, reading.image, reading.segment_ids, entry.files, segments=segments, variant=self._variant
        )

    @property
    def _variant(self) -> str:
        """All choices that change the pixels of an image, for the cache."""
        grey = self.options.grey_range
        return self.variant if grey is None else f"{self.variant} grey {grey[0]} to {grey[1]}".strip()

    def largest_segment_count(self) -> int | None:
        """Return the most segments, crowd regions aside, that one image has; None where entries do not list them."""
        if isinstance(self.entries, EntryTable):
            return self.entries.segments.largest_count()
        listed = [entry.segments for entry in self.entries]
        counts = [sum(not segment.is_crowd for segment in segments) for segments in listed if segments is not None]
        return max(counts) if len(counts) == len(listed) else None

    def sizes(self) -> set[tuple[int, int] | None]:
        """Return the different sizes (h, w) of the images; None among them if the size of one is not known."""
        if isinstance(self.entries, EntryTable):
            return {(height, width) for height, width in np.unique(self.entries.sizes, axis=0).tolist()}
        return {entry.size for entry in self.entries}

    def _read(self, entry: Entry) -> Reading:
        """Read an entry; an error of any library becomes one sentence that names the files."""
        try:
            return self.read(entry)
        except (OSError, *_MISTAKES):
            raise
        except Exception as error:
            if isinstance(error, ValueError) and any(name in str(error) for name in (entry.image_id, *entry.files)):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            files = " and ".join(f"'{file}'" for file in entry.files)
            raise ValueError(f"Image '{entry.image_id}' cannot be read from {files} ({reason}).") from error

    def _read_good(self, index: int) -> tuple[int, Reading]:
        """Read the sample at an index or else the next in order that can be read; return its own index with it."""
        assert self.bad_samples is not None
        for position in chain(range(index, len(self)), range(index)):
            try:
                return position, self.checked(position)
            except (FileNotFoundError, ValueError) as error:
                self.bad_samples.note(position, error, asked_for=position == index)
        raise TooManyBadSamplesError(f"None of the {len(self)} samples can be read.")


def _translate(segments: Sequence[SegmentEntry], categories: Categories, entry: Entry) -> list[Segment]:
    """Return segments with the train ids of their classes in place of label ids; refuse unknown classes."""
    try:
        train_ids = [categories.train_id(segment.category_id) for segment in segments]
    except ValueError as error:
        raise ValueError(f"Image '{entry.image_id}': {error}") from None
    return [
        Segment(segment.id, train_id, categories[train_id].is_thing, is_crowd=segment.is_crowd)
        for segment, train_id in zip(segments, train_ids, strict=True)
    ]
