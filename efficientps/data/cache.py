"""A prepared cache of decoded samples (the extra ``cache``): the same pixels and ids, without PNG decoding.

One safetensors file for each image holds its pixels and its segment ids, both compressed without loss by Blosc2 (LZ4
after a transposition of bits), and says which files they were made from. Among Blosc2's codecs and filters this is the
fastest that makes photographs smaller: it saves 20 to 25 % of the bytes of the pixels, and 98 % of the bytes of the
ids. Unlike PNG files, cache files have no checksums.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from efficientps.atomic_file import atomic_file
from efficientps.data.entries import Reading, SegmentEntry
from efficientps.data.formats.image_file import MAX_PIXELS
from efficientps.data.formats.safe_path import inside

_IMAGE, _IDS = "image", "segment_ids"

_PLAIN = "as stored"
"""Name of images without a variant, for messages."""


class CacheError(ValueError):
    """A cache that cannot be used: damaged, made from other files, or without its package.

    Attributes:
        argument: the argument that the error is about.
    """

    argument = "cache"


class MissingFromCacheError(FileNotFoundError):
    """A cache that lacks a sample.

    Attributes:
        argument: the argument that the error is about.
    """

    argument = "cache"


class SampleCache:
    """A folder of decoded samples by image id.

    A sample is read only if size and modification time of its source files are still the same.
    """

    def __init__(self, *, root: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> None:
        """Remember the folder, which need not exist before the first ``write``.

        Args:
            root: the folder.
            max_pixels: larger samples are refused before anything is decompressed.

        Raises:
            CacheError: if Blosc2 is not installed.
        """
        try:
            _blosc2()
        except ImportError:
            raise CacheError(
                f"The cache '{root}' needs Blosc2; install it with: pip install blosc2, or read without a cache."
            ) from None
        self.root = Path(root)
        self._max_pixels = max_pixels

    def path(self, image_id: str) -> Path:
        """Return the file of a sample.

        Raises:
            ValueError: if the name leads out of the folder.
        """
        return Path(inside(self.root, f"{image_id}.safetensors", self.root))

    def write(
        self,
        image_id: str,
        image: Tensor,
        segment_ids: Tensor,
        sources: Sequence[str | os.PathLike[str]],
        *,
        segments: Sequence[SegmentEntry] = (),
        variant: str = "",
    ) -> int:
        """Write a sample, whole or not at all, and return the size of its file in bytes.

        Args:
            image_id: the name of the sample.
            image: uint8 ``[3, h, w]``.
            segment_ids: int32 ``[h, w]``.
            sources: the files that it was read from.
            segments: its segments, where nothing but reading it tells them.
            variant: names what decides the pixels beside the files (see ``PanopticDataset``).
        """
        path = self.path(image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = {
            _IMAGE: self._compress(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), bits=True),
            _IDS: self._compress(np.ascontiguousarray(segment_ids.numpy()), bits=False),
        }
        metadata = {"height": str(image.shape[1]), "width": str(image.shape[2]), "sources": _state(sources, variant)}
        metadata["segments"] = json.dumps([[segment.id, segment.category_id, segment.is_crowd] for segment in segments])
        with atomic_file(path, concurrent=True) as temporary:
            save_file(packed, temporary, metadata)
            return temporary.stat().st_size

    def has(self, image_id: str, sources: Sequence[str | os.PathLike[str]], *, variant: str = "") -> bool:
        """Return whether the sample is there and fits the files that it was read from."""
        try:
            self.read(image_id, sources, variant=variant)
        except (ValueError, FileNotFoundError):
            return False
        return True

    def read(self, image_id: str, sources: Sequence[str | os.PathLike[str]], *, variant: str = "") -> Reading:
        """Return image, map and the segments that were written; the bytes of a pixel lie side by side.

        Args:
            image_id: the name of the sample.
            sources: the files that it was read from.
            variant: names what decides the pixels beside the files.

        Raises:
            MissingFromCacheError: if the sample is not in the cache.
            FileNotFoundError: if a source does not exist.
            CacheError: if it is damaged, too large, older than its sources, or of another variant.
        """
        path = self.path(image_id)
        if not path.is_file():
            raise MissingFromCacheError(f"The cache has no '{path}'; make it whole, or read without a cache.")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                packed = {name: file.get_tensor(name) for name in (_IMAGE, _IDS)}
            height, width = (_positive(metadata.get(name, "")) for name in ("height", "width"))
            if height * width > self._max_pixels:
                raise ValueError(f"{height}x{width} pixels, where at most {self._max_pixels} are read")
            image = self._decompress(packed[_IMAGE], np.empty((height, width, 3), dtype=np.uint8))
            segment_ids = self._decompress(packed[_IDS], np.empty((height, width), dtype=np.int32))
            segments = _segments(metadata.get("segments", "[]"))
        except (SafetensorError, ValueError) as error:
            raise CacheError(
                f"The cache's '{path}' is damaged ({' '.join(str(error).split())[:200]}); make it again."
            ) from None
        if (made := metadata.get("sources", "")) != (now := _state(sources, variant)):
            if made.split()[: len(sources)] == now.split()[: len(sources)]:
                made_of = " ".join(made.split()[len(sources) :])
                difference = f"of images '{made_of or _PLAIN}', where they are read '{variant or _PLAIN}'"
            else:
                difference = f"from other files than '{sources[0]}' is now"
            raise CacheError(f"The cache's '{path}' was made {difference}; make it again.")
        return Reading(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(segment_ids), segments)

    def _compress(self, array: npt.NDArray[Any], *, bits: bool) -> npt.NDArray[np.uint8]:
        blosc2 = _blosc2()
        packed = blosc2.compress2(
            array,
            codec=blosc2.Codec.LZ4,
            clevel=5,
            filters=[blosc2.Filter.BITSHUFFLE if bits else blosc2.Filter.SHUFFLE],
            filters_meta=[0],
            typesize=array.shape[-1] if bits else array.itemsize,
            nthreads=1,
        )
        return np.frombuffer(packed, dtype=np.uint8)

    def _decompress(self, packed: npt.NDArray[np.uint8], array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Unpack bytes into an array, and refuse bytes that do not have its size."""
        blosc2 = _blosc2()
        size, packed_size, _ = blosc2.get_cbuffer_sizes(packed)
        if size != array.nbytes or packed_size != packed.nbytes:
            raise ValueError(f"{size} bytes where {array.nbytes} were expected")
        blosc2.decompress2(packed, dst=array, nthreads=1)
        return array


def _blosc2() -> Any:
    """Import Blosc2; a module cannot be pickled for a worker process, so it is no attribute of a cache."""
    import blosc2

    return blosc2


def _state(sources: Sequence[str | os.PathLike[str]], variant: str) -> str:
    """Return sizes and modification times of files, and the variant; copies that keep the times have the same state."""
    states = (os.stat(source) for source in sources)
    words = [f"{state.st_size}:{state.st_mtime_ns // 10**9}" for state in states]
    return " ".join([*words, variant] if variant else words)


def _segments(text: str) -> tuple[SegmentEntry, ...]:
    """Return the segments that a sample's file lists; refuse what is no list of (id, class, crowd)."""
    try:
        return tuple(SegmentEntry(int(number), int(label), bool(crowd)) for number, label, crowd in json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"its list of segments is {text[:20]!r}") from None


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise ValueError(f"a size is {text[:20]!r}")
    return int(text)
