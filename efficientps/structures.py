"""Data structures that data, models, metrics and training share.

Letters used in every docstring of the package: B batch, C classes, N instances, H W the padded canvas that a
network sees, h w the valid image inside it (top-left aligned), s the stride of a feature map.

Three id spaces are never mixed:

* ``label_id`` - the raw id of a dataset's files (7..33 in Cityscapes); it appears at the file borders only.
* ``train_id`` - 0 .. num_stuff + num_things - 1, stuff classes first; the channel of the semantic logits.
* ``thing_id`` - 0 .. num_things - 1; ``train_id == num_stuff + thing_id``. There is no background slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.nn.functional import interpolate

VOID = 0
"""Segment id of a pixel that belongs to no segment (COCO panoptic format)."""

IGNORE_INDEX = 255
"""Semantic target of a pixel that no loss and no metric may count (void and padding)."""


class FeaturePyramid(NamedTuple):
    """Feature maps of the two-way FPN, finest first; each float ``[B, C, H/s, W/s]`` with the stride s in its name."""

    p4: Tensor
    p8: Tensor
    p16: Tensor
    p32: Tensor


class Segment(NamedTuple):
    """One segment of a panoptic map: its id in the map, its class, and how sure a prediction is of it in [0, 1]."""

    id: int
    train_id: int
    is_thing: bool
    score: float = 1.0
    is_crowd: bool = False


@dataclass
class PanopticSegmentation:
    """A panoptic map and the list of its segments: the same type for predictions and for ground truth.

    Attributes:
        segment_ids: int32 ``[h, w]``; each pixel's segment id, ``VOID`` (0) where there is none.
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


class InstanceTargets(TypedDict):
    """The instances of one training image; crowd regions are not instances. N may be 0."""

    labels: Tensor  # int64 [N], thing_id
    boxes: Tensor  # float32 [N, 4], xyxy in pixels, half-open: a mask of one pixel at the origin has [0, 0, 1, 1]
    masks: Tensor  # bool [N, H, W]


class HostDetections(NamedTuple):
    """What the host has to know of the instances of one image: everything but their mask logits, in its own memory.

    Attributes:
        scores: float32 ``[N]``.
        labels: int64 ``[N]``, thing_id.
        boxes: float32 ``[N, 4]``.
        mask_frames: float32 ``[N, 4]``.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor
    mask_frames: Tensor


@dataclass
class InstancePredictions:
    """The instances that a head found in one image, with mask logits in the head's own frame.

    The grid of ``mask_logits[i]`` covers exactly the rectangle ``mask_frames[i]`` of the image: the box itself for
    a head that predicts masks inside boxes (Mask R-CNN), the whole padded canvas for one that predicts them over the
    image (SOLOv2). ``render`` reads one instance's logits inside one window; nothing ever builds ``[N, h, w]``.

    Attributes:
        scores: float32 ``[N]`` in [0, 1].
        labels: int64 ``[N]``, thing_id.
        boxes: float32 ``[N, 4]``, xyxy in pixels of the valid image; an instance has no pixel outside its box.
        mask_logits: float ``[N, m, n]``, before the sigmoid.
        mask_frames: float32 ``[N, 4]``, xyxy in pixels; the rectangle that the grid of each mask covers.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor
    mask_logits: Tensor
    mask_frames: Tensor

    def __len__(self) -> int:
        """Return the number of instances N."""
        return len(self.scores)

    def __getitem__(self, index: Tensor | slice) -> InstancePredictions:
        """Select instances by a boolean mask, an index tensor or a slice; all fields move together."""
        return InstancePredictions(
            scores=self.scores[index],
            labels=self.labels[index],
            boxes=self.boxes[index],
            mask_logits=self.mask_logits[index],
            mask_frames=self.mask_frames[index],
        )

    def resize(self, from_size: tuple[int, int], to_size: tuple[int, int]) -> InstancePredictions:
        """Return the instances of an image of size ``(h, w)`` as those of the same image at another size.

        Boxes and frames are scaled; the grids of the masks stay as they are, and render at the new size.
        """
        boxes, frames = (_resize_boxes(boxes, from_size, to_size) for boxes in (self.boxes, self.mask_frames))
        return replace(self, boxes=boxes, mask_frames=frames)

    def on_host(self) -> HostDetections:
        """Return everything but the mask logits in the host's memory, in one transfer from the device."""
        if self.boxes.device.type == "cpu":
            return HostDetections(self.scores, self.labels, self.boxes, self.mask_frames)
        # The labels travel as float32, which holds every integer up to 2**24.
        columns = torch.cat([self.scores[:, None], self.labels[:, None], self.boxes, self.mask_frames], dim=1).cpu()
        return HostDetections(columns[:, 0], columns[:, 1].long(), columns[:, 2:6], columns[:, 6:])

    def windows(self, image_size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """Return each box as a half-open pixel window, see ``pixel_windows``, in one transfer from the device."""
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in pixel_windows(self.boxes, image_size).tolist()]

    def render(self, index: int, window: tuple[int, int, int, int]) -> Tensor:
        """Return the mask logits of one instance in a window ``(x0, y0, x1, y1)``, float32 ``[y1-y0, x1-x0]``.

        Bilinear between the grid's cell centres, constant beyond the outermost ones (``align_corners=False``).
        The frame stays on the device: nothing here waits for it.
        """
        x0, y0, x1, y1 = window
        grid = self.mask_logits[index].float()
        left, top, right, bottom = self.mask_frames[index].unbind()
        rows = _interpolate_axis(grid, 0, y0, y1, top, bottom)
        return _interpolate_axis(rows, 1, x0, x1, left, right)


def pixel_windows(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return boxes ``[N, 4]`` as half-open pixel windows ``(x0, y0, x1, y1)`` clipped to the image ``(h, w)``.

    A pixel is inside where its centre is. The result is int64 ``[N, 4]``, on the device of the boxes.

    >>> pixel_windows(torch.tensor([[0.4, 0.6, 3.5, 99.0]]), (6, 8))
    tensor([[0, 1, 3, 6]])
    """
    edges = (boxes - 0.5).ceil().nan_to_num(nan=0)  # a box that is no number is empty
    x, y = (edges[:, axis::2].clamp(0, image_size[1 - axis]).long() for axis in (0, 1))
    low, high = torch.stack([x, y], dim=2).unbind(dim=1)
    return torch.cat([low, high.maximum(low)], dim=1)


def _resize_boxes(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Scale boxes ``[N, 4]`` of an image of size ``(h, w)`` to another size; nothing is copied to their device."""
    x, y = (boxes[:, axis::2] * (to_size[1 - axis] / from_size[1 - axis]) for axis in (0, 1))
    return torch.stack([x, y], dim=2).flatten(1)


def _interpolate_axis(grid: Tensor, dim: int, start: int, stop: int, low: Tensor, high: Tensor) -> Tensor:
    """Resample one axis of a 2-D grid that spans [low, high] at the pixel centres start+0.5 .. stop-0.5."""
    cells = grid.shape[dim]
    centres = torch.arange(start, stop, device=grid.device, dtype=torch.float32) + 0.5
    position = ((centres - low) * (cells / (high - low)) - 0.5).clamp(0, cells - 1)
    lower = position.floor()
    weight = position - lower
    first = lower.long()
    second = (first + 1).clamp(max=cells - 1)
    weight = weight[:, None] if dim == 0 else weight[None, :]
    return torch.lerp(grid.index_select(dim, first), grid.index_select(dim, second), weight)


@dataclass
class BoxPredictions:
    """The boxes that a detector of things and stuff found in one image, whether or not they have masks.

    Attributes:
        scores: float32 ``[N]`` in [0, 1].
        train_ids: int64 ``[N]``.
        boxes: float32 ``[N, 4]``, xyxy in pixels of the valid image.
    """

    scores: Tensor
    train_ids: Tensor
    boxes: Tensor

    def resize(self, from_size: tuple[int, int], to_size: tuple[int, int]) -> BoxPredictions:
        """Return the boxes of an image of size ``(h, w)`` as those of the same image at another size."""
        return replace(self, boxes=_resize_boxes(self.boxes, from_size, to_size))


@dataclass
class Prediction:
    """What a panoptic network says of one image, at the size of the valid image.

    Attributes:
        panoptic: the panoptic map.
        semantic: uint8 ``[h, w]``, train_id of each pixel before fusion (for mIoU).
        instances: all instances above the head's low detection threshold (for AP).
        boxes: of a network that detects things and stuff as boxes (for their AP); None of others.
    """

    panoptic: PanopticSegmentation
    semantic: Tensor
    instances: InstancePredictions
    boxes: BoxPredictions | None = None

    def resize(self, size: tuple[int, int]) -> Prediction:
        """Return the prediction at another size ``(h, w)``, such as that of the ground truth; maps by nearest."""
        height, width = self.semantic.shape
        if (height, width) == tuple(size):
            return self
        semantic = interpolate(self.semantic[None, None], size=size, mode="nearest-exact")[0, 0]
        instances = self.instances.resize((height, width), size)
        boxes = self.boxes.resize((height, width), size) if self.boxes else None
        return Prediction(self.panoptic.resize(size), semantic, instances, boxes)


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
