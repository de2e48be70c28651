"""Conventions of boxes: where anchors, samples, clipped boxes and mask grids lie, and which boxes belong to an object.

Two networks with the same weights differ in their detections if they follow different conventions. Boxes are half-open
in this package: a box of one pixel at the origin is ``[0, 0, 1, 1]``. The boxes of mmdetection 1 name their last pixel;
one more in x2 and y2 makes them half-open, and widths, offsets, IoU and levels then agree with torchvision's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from efficientps.networks.efficientps.mask_rcnn.box_coding import clip_boxes

ConventionName: TypeAlias = Literal["torchvision", "mmdetection_1"]

_SMALLEST_FRAME = 1e-3
"""Side in pixels of the frame of a box of one pixel, whose grid has no extent in mmdetection 1."""


@dataclass(frozen=True)
class BoxConvention:
    """One set of conventions; the defaults are torchvision's.

    The files named here are those of DeepSceneSeg/EfficientPS, which contains mmdetection 1.

    Attributes:
        anchor_shift: shift of the anchors against the corner of their cell, in strides. The anchors of mmdetection 1
            lie around the centre of the cell (mmdet/core/anchor/anchor_generator.py).
        roi_shift: shift of boxes before RoIAlign, in strides of their level, with the centres of cells at
            half-integers. The kernel of mmdetection 1 has them at integers (mmdet/ops/roi_align/src).
        clips_to_pixels: whether the corners of a clipped box are pixels of the image: then a box outside of the image
            keeps one pixel (mmdet/core/bbox/transforms.py, ``delta2bbox``). Otherwise it becomes empty and is left out.
        pads_masks_with_zeros: whether the grid of mask logits ends with the last pixel of the box, one less in x2 and
            y2, and whether the logits fade to 0 over one cell around it (mmdet/models/efficientps/efficientPS.py,
            ``roi_sampling`` with ``padding="zero"``). Otherwise the grid covers the box and ends there.
        competes_everywhere: whether an instance competes with FL = 0 for the pixels outside of its box, where it takes
            those whose stuff logits are all negative (efficientPS.py, ``simple_test_mask_``).
        trains_anchors_inside: whether only anchors inside the image count in the losses (``allowed_border`` of 0 in
            mmdet/core/anchor/anchor_target.py).
        closest_box_belongs_to_object: whether the box that overlaps an object most belongs to this object, even if it
            overlaps another one more, provided that the overlap is that of negative boxes at least
            (mmdet/core/bbox/assigners/max_iou_assigner.py; ``min_pos_iou`` in the configuration). Otherwise it belongs
            to the object that it overlaps most, however little (torchvision's ``allow_low_quality_matches``).
        matches_before_objects: whether proposals are matched before the boxes of the objects join them
            (``add_gt_as_proposals`` in mmdet/core/bbox/samplers/base_sampler.py).
        hard_mask_targets: whether the targets of masks are 0 or 1, from a crop at whole pixels
            (mmdet/core/mask/mask_target.py); otherwise they are mean values over the cells of the grid.
        small_initial_weights: whether the last layers of the box branch start with normal weights of standard
            deviation 0.01 (classes) and 0.001 (boxes), its fully connected layers with Xavier's and the last two layers
            of the mask branch with Kaiming's (``init_weights`` in mmdet/models/bbox_heads and mask_heads).
    """

    anchor_shift: float = 0.0
    roi_shift: float = 0.0
    clips_to_pixels: bool = False
    pads_masks_with_zeros: bool = False
    competes_everywhere: bool = False
    trains_anchors_inside: bool = False
    closest_box_belongs_to_object: bool = False
    matches_before_objects: bool = False
    hard_mask_targets: bool = False
    small_initial_weights: bool = False

    def clip(self, boxes: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Return boxes ``[B, R, 4]`` that reach nowhere beyond their image of size ``(h, w)``."""
        if not self.clips_to_pixels:
            return clip_boxes(boxes, image_sizes)
        highest = boxes.new_tensor([[w - 1, h - 1, w, h] for h, w in image_sizes])
        return boxes.maximum(boxes.new_tensor([0.0, 0.0, 1.0, 1.0])).minimum(highest[:, None])

    def mask_grids(self, boxes: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask logits ``[N, m, n]`` and the frames ``[N, 4]`` that their grids cover, as the fusion reads them.

        Args:
            boxes: float32 ``[N, 4]``.
            mask_logits: float32 ``[N, m, n]``, of the mask branch.
        """
        if not self.pads_masks_with_zeros:
            return mask_logits, boxes
        low, size = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2] - 1).clamp(min=_SMALLEST_FRAME)
        cell = size / size.new_tensor([mask_logits.shape[2], mask_logits.shape[1]])
        # One cell of zeros on each side: the interpolation between cells then fades to 0.
        return pad(mask_logits, (1, 1, 1, 1)), torch.cat([low - cell, low + size + cell], dim=1)


CONVENTIONS: Mapping[ConventionName, BoxConvention] = {
    "torchvision": BoxConvention(),
    "mmdetection_1": BoxConvention(
        anchor_shift=0.5,
        roi_shift=0.5,
        clips_to_pixels=True,
        pads_masks_with_zeros=True,
        competes_everywhere=True,
        trains_anchors_inside=True,
        closest_box_belongs_to_object=True,
        matches_before_objects=True,
        hard_mask_targets=True,
        small_initial_weights=True,
    ),
}


def convention_of(name: ConventionName) -> BoxConvention:
    """Return a convention by its name.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in CONVENTIONS:
        raise ValueError(f"There is no box convention '{name}'; choose from {', '.join(CONVENTIONS)}.")
    return CONVENTIONS[name]
