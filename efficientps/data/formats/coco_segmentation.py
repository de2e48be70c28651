"""The masks of COCO instance annotations: polygons, and run lengths as numbers or as text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from efficientps.data.formats.image_file import MAX_PIXELS, MAX_SIDE

_FARTHEST = 2 * MAX_SIDE
"""Coordinates may lie outside of the image, but the work of drawing a polygon grows with its length."""


_SMALL = 2
"""Pixels of the side of an image that a polygon within the corner pixel may be drawn for."""


def decode_segmentation(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode the ``segmentation`` of a COCO annotation: polygons, or run lengths as numbers or as text.

    pycocotools decodes polygons; what it would misread is refused first.

    Args:
        segmentation: value in the JSON file.
        size: (h, w) of the image.

    Raises:
        ValueError: if it is neither, or does not fit the image. The sentence goes on after the annotation's name.
    """
    height, width = size
    if (fault := fault_of(segmentation, size)) is not None:
        raise ValueError(fault)
    if isinstance(segmentation, list):
        parts = coco_mask.frPyObjects(segmentation, height, width)
        return np.asarray(coco_mask.decode(coco_mask.merge(parts)), dtype=np.bool_)
    runs = _runs(segmentation)
    assert runs is not None
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def fault_of(segmentation: Any, size: tuple[int, int]) -> str | None:
    """Return what is wrong with a segmentation, None if nothing; the words go on after the annotation's name.

    Args:
        segmentation: value in the JSON file.
        size: (h, w) of the image.

    >>> fault_of([[4, 4, 9, 9]], (12, 17))
    'has a polygon of fewer than three points'
    """
    height, width = size
    if segmentation is None:
        return "has no 'segmentation': a box does not say which pixels are the object's"
    if isinstance(segmentation, list):
        faults = (_fault_of_polygon(polygon) for polygon in segmentation)
        if fault := next(filter(None, faults), None) if segmentation else "has an empty list of polygons":
            return fault
        if min(size) > _SMALL and all(0 <= number <= 1 for polygon in segmentation for number in polygon):
            return "has polygons inside of one pixel, as parts of the image's size are; give coordinates in pixels"
        return None
    if not isinstance(segmentation, dict):
        return "has a 'segmentation' that is neither a list of polygons nor run lengths"
    if segmentation.get("size") != [height, width]:
        return f"has run lengths for the size {segmentation.get('size')!r:.40} where the image has {[height, width]}"
    runs = _runs(segmentation)
    if runs is None or sum(runs) != height * width:
        return f"has run lengths that do not add up to the {height * width} pixels of the image"
    return None


def without_faults(segmentation: Any) -> list[list[float]] | None:
    """Return the good ones of several polygons; None if there is none."""
    if not isinstance(segmentation, list):
        return None
    return [polygon for polygon in segmentation if _fault_of_polygon(polygon) is None] or None


def _fault_of_polygon(polygon: Any) -> str | None:
    """Return what pycocotools would misread."""
    if not isinstance(polygon, list):
        return "has a polygon that is not a list of x, y, x, y, ..."
    if not all(map(_is_coordinate, polygon)):
        return "has a polygon with a coordinate that is no number, or is out of range"
    if len(polygon) < 6:
        return "has a polygon of fewer than three points"
    return "has a polygon with an x that lacks its y" if len(polygon) % 2 else None


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and -_FARTHEST < value < _FARTHEST  # NaN compares with nothing


def _runs(segmentation: dict[str, Any]) -> list[int] | None:
    """Return the run lengths of a mask, as numbers or as text; None if they are none."""
    counts = segmentation.get("counts")
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    good = isinstance(runs, list) and all(type(run) is int and 0 <= run <= MAX_PIXELS for run in runs)
    return runs if good else None


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
