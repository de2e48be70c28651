"""Panoptic maps and their segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

VOID = 0
"""Segment id of a pixel that belongs to no segment (COCO panoptic format)."""

IGNORE_INDEX = 255
"""Semantic target of a pixel that losses and metrics ignore (void and padding)."""


class Segment(NamedTuple):
    """One segment of a panoptic map: its id in the map, its class, and the score of a predicted segment in [0, 1]."""

    id: int
    train_id: int
    is_thing: bool
    score: float = 1.0
    is_crowd: bool = False


@dataclass
class PanopticSegmentation:
    """A panoptic map and the list of its segments, predicted or true.

    Attributes:
        segment_ids: int32 ``[h, w]``; each pixel's segment id, or ``VOID`` (0).
        segments: one entry for each id that occurs in ``segment_ids``, ``VOID`` excepted.
    """

    segment_ids: Tensor
    segments: list[Segment] = field(default_factory=list)

    def resize(self, size: tuple[int, int]) -> PanopticSegmentation:
        """Return the map at another size ``(h, w)``, by nearest neighbour; segments left with no pixel are dropped."""
        if tuple(self.segment_ids.shape) == tuple(size):
            return self
        rows, columns = (self._nearest(axis, length) for axis, length in enumerate(size))
        segment_ids = self.segment_ids.index_select(0, rows).index_select(1, columns)
        present = set(torch.unique(segment_ids).tolist())
        return PanopticSegmentation(segment_ids, [segment for segment in self.segments if segment.id in present])

    def _nearest(self, axis: int, length: int) -> Tensor:
        """Return the nearest row (axis 0) or column of the map for each of another length, int64 ``[length]``."""
        shape, size = [1, 1], [1, 1]
        shape[axis], size[axis] = self.segment_ids.shape[axis], length
        # The numbers of rows are interpolated, and not the map, which would take twice its memory as doubles.
        numbers = torch.arange(shape[axis], dtype=torch.float64, device=self.segment_ids.device)
        return interpolate(numbers.view(1, 1, *shape), size=size, mode="nearest-exact").flatten().long()
