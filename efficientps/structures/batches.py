"""Samples and batches of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from torch import Tensor

from efficientps.structures.instances import InstanceTargets
from efficientps.structures.panoptic import Segment


class ImageSample(TypedDict):
    """One image to predict on."""

    image: Tensor  # uint8 [3, h, w], RGB
    image_id: str
    original_size: tuple[int, int]  # (h, w) of the image file


class PanopticSample(ImageSample):
    """One image with its ground truth."""

    segment_ids: Tensor  # int32, [h, w] in training, the original size in evaluation; VOID = 0
    segments: list[Segment]


class ImageBatch(TypedDict):
    """Images on canvases of one size, each image in the top-left corner of its canvas."""

    images: Tensor  # uint8 [B, 3, H, W]
    image_sizes: list[tuple[int, int]]  # valid (h, w) of each image
    original_sizes: list[tuple[int, int]]  # (h, w) of each image file
    image_ids: list[str]


class PanopticBatch(ImageBatch):
    """Images with their ground truth; each map has the size of its valid image (in evaluation: of its file)."""

    segment_ids: list[Tensor]  # int32 [h, w] each
    segments: list[list[Segment]]


class TrainingBatch(PanopticBatch):
    """A batch with the training targets derived from its maps, on the padded canvas."""

    semantic: Tensor  # int64 [B, H, W], train_id; IGNORE_INDEX where void or padding
    instances: Sequence[InstanceTargets]
