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
        # Doubles hold every int32 exactly, so interpolation cannot change an id.
        resized = interpolate(self.segment_ids[None, None].double(), size=size, mode="nearest-exact")
        segment_ids = resized[0, 0].to(torch.int32)
        present = set(torch.unique(segment_ids).tolist())
        return PanopticSegmentation(segment_ids, [segment for segment in self.segments if segment.id in present])
