"""Stripes of an image, by which large images are handled in little memory."""

from __future__ import annotations

from collections.abc import Iterator

PIXELS_AT_ONCE = 2**21
"""Pixels of a stripe: those of an image of Cityscapes."""


def stripes(size: tuple[int, int]) -> Iterator[slice]:
    """Split an image of a size ``(h, w)`` into stripes of whole rows, of at most ``PIXELS_AT_ONCE`` or of one row.

    >>> list(stripes((1024, 2048))), len(list(stripes((8000, 12000))))
    ([slice(0, 1024, None)], 46)
    """
    height, width = size
    step = max(1, PIXELS_AT_ONCE // max(1, width))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))
