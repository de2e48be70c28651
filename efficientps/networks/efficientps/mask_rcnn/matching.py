"""Which object a box belongs to, by overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from efficientps.structures import InstanceTargets

BACKGROUND = -1
"""In place of an object: the box overlaps none enough."""

NEITHER = -2
"""In place of an object: the box overlaps one too much for background and too little for the object."""


def match_boxes(
    objects: Tensor, boxes: Tensor, *, positive_iou: float, negative_iou: float, each_object_has_one: bool = False
) -> Tensor:
    """Return the index of each box's object, ``BACKGROUND`` or ``NEITHER``, int64 ``[R]``.

    The result is that of torchvision's ``Matcher``, and the host does not wait for it.

    Args:
        objects: float32 ``[N, 4]``, xyxy; N may be 0.
        boxes: float32 ``[R, 4]``.
        positive_iou: overlap from which a box belongs to the object that it overlaps most.
        negative_iou: overlap below which it is background.
        each_object_has_one: whether the boxes that overlap an object most belong to an object in any case: to the one
            that they themselves overlap most.
    """
    if len(objects) == 0:
        return torch.full((len(boxes),), BACKGROUND, device=boxes.device)
    overlap = box_iou(objects, boxes)
    best, matched = overlap.max(dim=0)
    result = torch.where(best < negative_iou, BACKGROUND, torch.where(best < positive_iou, NEITHER, matched))
    if each_object_has_one:
        closest = (overlap == overlap.amax(dim=1, keepdim=True)).any(dim=0)
        result = torch.where(closest, matched, result)
    return result


def objects_of_all_images(matched: Sequence[Tensor], targets: Sequence[InstanceTargets]) -> Tensor:
    """Return matches in each image ``[R_i]`` as indices into the objects of all images in order, int64 ``[sum R_i]``.

    Where a box belongs to no object, the number means nothing.
    """
    first, shifted = 0, []
    for image, target in zip(matched, targets, strict=True):
        shifted.append(image + first if first else image)
        first += len(target["boxes"])
    return torch.cat(shifted)
