"""Samples and batches of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NotRequired, TypedDict

from torch import Tensor

from efficientps.structures.instances import InstanceTargets
from efficientps.structures.panoptic import Segment


class ImageSample(TypedDict):
    """One image to predict on."""

    image: Tensor  # uint8 [3, h, w], RGB
    image_id: str
    original_size: tuple[int, int]  # (h, w) of the image file
    file_name: NotRequired[str]  # the image's own name, as exports give it


class UnreadableImage(NamedTuple):
    """Stands for an image that cannot be read, where prediction goes on without it.

    Attributes:
        file_name: the image's own name, as exports would give it.
        kind: what is wrong with it, in a few words that images with the same fault share.
        reason: one sentence that names the file.
    """

    file_name: str
    kind: str
    reason: str


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
    file_names: NotRequired[list[str]]  # the images' own names; only for prediction
    unreadable: NotRequired[list[UnreadableImage]]  # what is missing from the batch


class PanopticBatch(ImageBatch):
    """Images with their ground truth; each map has the size of its valid image (in evaluation: of its file)."""

    segment_ids: list[Tensor]  # int32 [h, w] each
    segments: list[list[Segment]]


class TrainingBatch(PanopticBatch):
    """A batch with the training targets derived from its maps, on the padded canvas."""

    semantic: Tensor  # int64 [B, H, W], train_id; IGNORE_INDEX where void or padding
    instances: Sequence[InstanceTargets]
