"""Instances: training targets and predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor


class InstanceTargets(TypedDict):
    """The instances of one training image; crowd regions are not instances. N may be 0."""

    labels: Tensor  # int64 [N], thing_id
    boxes: Tensor  # float32 [N, 4], xyxy in pixels, half-open: a mask of one pixel at the origin has [0, 0, 1, 1]
    masks: Tensor  # bool [N, H, W]


class HostDetections(NamedTuple):
    """The predicted instances of one image without their mask logits, in CPU memory.

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
    """The instances that a head predicts in one image, with mask logits in the head's own frame.

    The grid of ``mask_logits[i]`` covers exactly the rectangle ``mask_frames[i]`` of the image. The rectangle is the
    box for a head that predicts masks inside boxes (Mask R-CNN), and the padded canvas for a head that predicts masks
    over the whole image (SOLOv2). ``render`` interpolates the logits of one instance inside a window, so no tensor
    ``[N, h, w]`` is needed.

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
        """Select instances by a boolean mask, an index tensor or a slice, in all fields."""
        return InstancePredictions(
            scores=self.scores[index],
            labels=self.labels[index],
            boxes=self.boxes[index],
            mask_logits=self.mask_logits[index],
            mask_frames=self.mask_frames[index],
        )

    def resize(self, from_size: tuple[int, int], to_size: tuple[int, int]) -> InstancePredictions:
        """Return the instances scaled from an image size ``(h, w)`` to another.

        Boxes and frames are scaled; the mask logits are unchanged and are rendered at the new size.
        """
        boxes, frames = (_resize_boxes(boxes, from_size, to_size) for boxes in (self.boxes, self.mask_frames))
        return replace(self, boxes=boxes, mask_frames=frames)

    def on_host(self) -> HostDetections:
        """Copy everything except the mask logits to CPU memory, in one transfer."""
        if self.boxes.device.type == "cpu":
            return HostDetections(self.scores, self.labels, self.boxes, self.mask_frames)
        # The labels travel as float32, which holds every integer up to 2**24.
        columns = torch.cat([self.scores[:, None], self.labels[:, None], self.boxes, self.mask_frames], dim=1).cpu()
        return HostDetections(columns[:, 0], columns[:, 1].long(), columns[:, 2:6], columns[:, 6:])

    def windows(self, image_size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """Return each box as a half-open pixel window (``pixel_windows``), in one transfer from the device."""
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in pixel_windows(self.boxes, image_size).tolist()]

    def render(self, index: int, window: tuple[int, int, int, int]) -> Tensor:
        """Return the mask logits of one instance in a window ``(x0, y0, x1, y1)``, float32 ``[y1-y0, x1-x0]``.

        The logits are interpolated bilinearly between the centres of the grid's cells, and constant beyond the
        outermost centres (``align_corners=False``). The host does not wait for the device.
        """
        x0, y0, x1, y1 = window
        grid = self.mask_logits[index].float()
        left, top, right, bottom = self.mask_frames[index].unbind()
        rows = _interpolate_axis(grid, 0, y0, y1, top, bottom)
        return _interpolate_axis(rows, 1, x0, x1, left, right)


def pixel_windows(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return boxes ``[N, 4]`` as half-open pixel windows ``(x0, y0, x1, y1)`` clipped to the image ``(h, w)``.

    A window contains the pixels whose centres are inside the box. The result is int64 ``[N, 4]``, on the device of the
    boxes.

    >>> pixel_windows(torch.tensor([[0.4, 0.6, 3.5, 99.0]]), (6, 8))
    tensor([[0, 1, 3, 6]])
    """
    edges = (boxes - 0.5).ceil().nan_to_num(nan=0)  # a box with NaN becomes empty
    x, y = (edges[:, axis::2].clamp(0, image_size[1 - axis]).long() for axis in (0, 1))
    low, high = torch.stack([x, y], dim=2).unbind(dim=1)
    return torch.cat([low, high.maximum(low)], dim=1)


def _resize_boxes(boxes: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Scale boxes ``[N, 4]`` from an image size ``(h, w)`` to another, without a copy from the host to the device."""
    x, y = (boxes[:, axis::2] * (to_size[1 - axis] / from_size[1 - axis]) for axis in (0, 1))
    return torch.stack([x, y], dim=2).flatten(1)


def _interpolate_axis(grid: Tensor, dim: int, start: int, stop: int, low: Tensor, high: Tensor) -> Tensor:
    """Resample one axis of a 2-D grid that covers [low, high] at the pixel centres start + 0.5 .. stop - 0.5."""
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
    """The boxes that a detector of things and stuff predicts in one image, with or without masks.

    Attributes:
        scores: float32 ``[N]`` in [0, 1].
        train_ids: int64 ``[N]``.
        boxes: float32 ``[N, 4]``, xyxy in pixels of the valid image.
    """

    scores: Tensor
    train_ids: Tensor
    boxes: Tensor

    def resize(self, from_size: tuple[int, int], to_size: tuple[int, int]) -> BoxPredictions:
        """Return the boxes scaled from an image size ``(h, w)`` to another."""
        return replace(self, boxes=_resize_boxes(self.boxes, from_size, to_size))
