"""Samples of data sets and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from torch import Tensor

from efficientps.structures.instances import InstanceTargets
from efficientps.structures.panoptic import Segment


class PanopticSample(TypedDict):
    """One item of a dataset. Samples to predict on carry an all-void map and no segments."""

    image: Tensor  # uint8 [3, h, w], RGB
    segment_ids: Tensor  # int32, [h, w] in training, the original size in evaluation; VOID = 0
    segments: list[Segment]
    image_id: str
    original_size: tuple[int, int]  # of the image file


class ImageBatch(TypedDict):
    """Images on one canvas, each in its top-left corner."""

    images: Tensor  # uint8 [B, 3, H, W]
    image_sizes: list[tuple[int, int]]  # valid (h, w) of each
    original_sizes: list[tuple[int, int]]  # (h, w) of each image file
    image_ids: list[str]


class PanopticBatch(ImageBatch):
    """Images with their ground truth, each map at its own size (the original size in evaluation)."""

    segment_ids: list[Tensor]  # int32 [h, w] each
    segments: list[list[Segment]]


class TrainingBatch(PanopticBatch):
    """A batch with the targets derived from its maps, on the canvas of the images."""

    semantic: Tensor  # int64 [B, H, W], train_id; IGNORE_INDEX where void or padding
    instances: Sequence[InstanceTargets]
