"""The masks of COCO instance annotations: polygons, and run lengths as numbers or as text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode the ``segmentation`` of a COCO annotation: polygons, or run lengths as numbers or as text.

    pycocotools decodes both. It does not check that run lengths add up to the size of the image, so they are checked
    first.

    Args:
        segmentation: value in the JSON file.
        size: (h, w) of the image.

    Raises:
        ValueError: if it is neither, or does not fit the image. The sentence goes on after the annotation's name.
    """
    height, width = size
    if isinstance(segmentation, list):
        _check_polygons(segmentation)
        parts = coco_mask.frPyObjects(segmentation, height, width)
        return np.asarray(coco_mask.decode(coco_mask.merge(parts)), dtype=np.bool_)
    if not isinstance(segmentation, dict):
        raise ValueError("has a 'segmentation' that is neither a list of polygons nor run lengths")
    if segmentation.get("size") != [height, width]:
        raise ValueError(
            f"has run lengths for the size {segmentation.get('size')!r:.40} where the image has {[height, width]}"
        )
    counts = segmentation.get("counts")
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    if (
        not isinstance(runs, list)
        or not all(type(run) is int and run >= 0 for run in runs)
        or sum(runs) != height * width
    ):
        raise ValueError(f"has run lengths that do not add up to the {height * width} pixels of the image")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _check_polygons(polygons: list[Any]) -> None:
    """Refuse what pycocotools would misread."""
    if not polygons:
        raise ValueError("has an empty list of polygons")
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and abs(value) < 1e6
            for value in polygon
        )
        if not numbers or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("has a polygon that is not a list of x, y, x, y, ... of three or more points")


def _uncompressed(text: str) -> list[int] | None:
    """Return the run lengths that a text holds, None if it is damaged.

    Each letter has six bits, of which one says that more follow; from the third run on, a run is written as its
    difference to the one before the last (pycocotools:common/maskApi.c, rleFrString).

    >>> _uncompressed("52203")
    [5, 2, 2, 2, 5]
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs
