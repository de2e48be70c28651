"""A prepared cache of decoded samples (the extra ``cache``): the same pixels and ids, without PNG decoding.

One safetensors file for each image holds its pixels and its segment ids, both compressed without loss by Blosc2 (LZ4
after a transposition of bits), and says which files they were made from. Of Blosc2's codecs and filters this is the
fastest on photographs that saves space at all: 20 to 25 % of the bytes of the pixels, and 98 % of those of the ids.
Unlike a PNG file it has no checksums.
"""

from __future__ import annotations

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
from efficientps.data.formats.image_file import MAX_PIXELS
from efficientps.data.formats.safe_path import inside

_IMAGE, _IDS = "image", "segment_ids"


class SampleCache:
    """A folder of decoded samples by image id.

    A sample is taken only while the files that it was made from have the size and the time of change that they had.
    """

    def __init__(self, *, root: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> None:
        """Remember the folder, which need not exist before the first ``write``.

        Args:
            root: the folder.
            max_pixels: larger samples are refused before anything is decompressed.

        Raises:
            ValueError: if Blosc2 is not installed.
        """
        try:
            import blosc2
        except ImportError:
            raise ValueError(
                f"The cache '{root}' needs Blosc2; install it with: pip install -e '.[cache]', or leave data.cache out."
            ) from None
        self._blosc2: Any = blosc2
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
        upright: bool = False,
    ) -> int:
        """Write a sample, whole or not at all, and return the size of its file in bytes.

        Args:
            image_id: the name of the sample.
            image: uint8 ``[3, h, w]``.
            segment_ids: int32 ``[h, w]``.
            sources: the files that it was read from.
            upright: whether the image was turned as its EXIF orientation says.
        """
        path = self.path(image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = {
            _IMAGE: self._compress(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), bits=True),
            _IDS: self._compress(np.ascontiguousarray(segment_ids.numpy()), bits=False),
        }
        metadata = {"height": str(image.shape[1]), "width": str(image.shape[2]), "sources": _state(sources, upright)}
        with atomic_file(path, concurrent=True) as temporary:
            save_file(packed, temporary, metadata)
            return temporary.stat().st_size

    def has(self, image_id: str, sources: Sequence[str | os.PathLike[str]], *, upright: bool = False) -> bool:
        """Return whether the sample is there and fits the files that it was read from."""
        try:
            self.read(image_id, sources, upright=upright)
        except (ValueError, FileNotFoundError):
            return False
        return True

    def read(
        self, image_id: str, sources: Sequence[str | os.PathLike[str]], *, upright: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return image uint8 ``[3, h, w]``, with the bytes of a pixel side by side, and ids int32 ``[h, w]``.

        Args:
            image_id: the name of the sample.
            sources: the files that it was read from.
            upright: whether the image is asked for as its EXIF orientation says.

        Raises:
            FileNotFoundError: if the sample is not in the cache, or a source does not exist.
            ValueError: if it is damaged, too large, older than its sources, or of an image turned otherwise.
        """
        path = self.path(image_id)
        if not path.is_file():
            raise FileNotFoundError(
                f"The cache has no '{path}'; make it whole with datasets/prepare_cache.py, or leave data.cache out."
            )
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                packed = {name: file.get_tensor(name) for name in (_IMAGE, _IDS)}
            height, width = (_positive(metadata.get(name, "")) for name in ("height", "width"))
            if height * width > self._max_pixels:
                raise ValueError(f"{height}x{width} pixels, where at most {self._max_pixels} are read")
            image = self._decompress(packed[_IMAGE], np.empty((height, width, 3), dtype=np.uint8))
            segment_ids = self._decompress(packed[_IDS], np.empty((height, width), dtype=np.int32))
        except (SafetensorError, ValueError) as error:
            raise ValueError(
                f"The cache's '{path}' is damaged ({' '.join(str(error).split())[:200]}); make it again with "
                "datasets/prepare_cache.py."
            ) from None
        if metadata.get("sources") != _state(sources, upright):
            if metadata.get("sources") == _state(sources, not upright):
                difference = f"with{'out' if upright else ''} --upright, where data.upright is {str(upright).lower()}"
            else:
                difference = f"from other files than '{sources[0]}' is now"
            raise ValueError(
                f"The cache's '{path}' was made {difference}; make it again with datasets/prepare_cache.py."
            )
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(segment_ids)

    def _compress(self, array: npt.NDArray[Any], *, bits: bool) -> npt.NDArray[np.uint8]:
        blosc2 = self._blosc2
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
        """Fill an array from what was packed, and refuse what is not of its size."""
        size, packed_size, _ = self._blosc2.get_cbuffer_sizes(packed)
        if size != array.nbytes or packed_size != packed.nbytes:
            raise ValueError(f"{size} bytes where {array.nbytes} were expected")
        self._blosc2.decompress2(packed, dst=array, nthreads=1)
        return array


def _state(sources: Sequence[str | os.PathLike[str]], upright: bool) -> str:
    """Return what tells a file from a later version of it, and does not change when it is copied with its times."""
    states = (os.stat(source) for source in sources)
    words = [f"{state.st_size}:{state.st_mtime_ns // 10**9}" for state in states]
    return " ".join([*words, "upright"] if upright else words)


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise ValueError(f"a size is {text[:20]!r}")
    return int(text)
