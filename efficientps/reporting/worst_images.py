"""The images of an evaluation with the lowest panoptic quality."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from itertools import count
from typing import NamedTuple

from efficientps.metrics.panoptic_matching import PanopticCounts
from efficientps.visualization import Picture


class ScoredImage(NamedTuple):
    """An image of an evaluation: its id, its own panoptic quality in [0, 1], and a picture of the prediction."""

    image_id: str
    pq: float
    picture: Picture


class WorstImages:
    """The images with the lowest panoptic quality; only these are kept in memory.

    Args:
        number: how many images to keep.
    """

    def __init__(self, number: int) -> None:
        """Start without images."""
        self._number = number
        self._heap: list[tuple[float, int, ScoredImage]] = []
        self._order = count()

    def offer(self, image_id: str, counts: PanopticCounts, paint: Callable[[], Picture]) -> None:
        """Keep an image if it is among the worst so far.

        Args:
            image_id: id of the image.
            counts: its matches, for each class.
            paint: makes the picture; it is called only if the image is kept.
        """
        pq = image_quality(counts)
        if self._number and not math.isnan(pq) and (len(self._heap) < self._number or pq < -self._heap[0][0]):
            heapq.heappush(self._heap, (-pq, -next(self._order), ScoredImage(image_id, pq, paint())))
            if len(self._heap) > self._number:
                heapq.heappop(self._heap)

    @property
    def images(self) -> list[ScoredImage]:
        """The images kept so far, the worst first."""
        return worst_first(image for _, _, image in self._heap)


def worst_first(images: Iterable[ScoredImage]) -> list[ScoredImage]:
    """Sort images by their quality, and images of equal quality by their ids."""
    return sorted(images, key=lambda image: (image.pq, image.image_id))


def image_quality(counts: PanopticCounts) -> float:
    """Return the panoptic quality of one image, the mean over the classes in its two maps; NaN if there are none.

    >>> import torch
    >>> zero = torch.zeros(2, dtype=torch.int64)
    >>> iou = torch.tensor([0.8, 0.0], dtype=torch.float64)
    >>> image_quality(PanopticCounts(iou, torch.tensor([1, 0]), zero, torch.tensor([0, 1])))
    0.4
    """
    iou, tp, fp, fn = (values.cpu().double().numpy() for values in counts)
    size = tp + 0.5 * fp + 0.5 * fn
    return float((iou[size > 0] / size[size > 0]).mean()) if (size > 0).any() else math.nan
