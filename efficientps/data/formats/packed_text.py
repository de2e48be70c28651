"""Many short texts in one block of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from efficientps.data.formats.packed_sequence import PackedSequence


class PackedText(PackedSequence[str]):
    """Texts that are made when they are asked for.

    A Python object for each of a hundred thousand names takes ten times the memory. A process that is forked off would
    also copy all of them, because each use of an object counts in its own memory.

    >>> names = PackedText(["a.png", "", "ü.png"])
    >>> len(names), names[2], list(names)
    (3, 'ü.png', ['a.png', '', 'ü.png'])
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Pack the texts."""
        block, ends = bytearray(), [0]
        for text in texts:
            block += text.encode("utf-8", "surrogatepass")
            ends.append(len(block))
        self._block = bytes(block)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self._ends) - 1

    def at(self, position: int) -> str:
        """Make a text."""
        start, end = self._ends[position : position + 2].tolist()
        return self._block[start:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        """Yield each text."""
        for start, end in pairwise(self._ends.tolist()):
            yield self._block[start:end].decode("utf-8", "surrogatepass")
