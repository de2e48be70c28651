"""Match boxes to objects by their overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from efficientps.structures import InstanceTargets

BACKGROUND = -1
"""Index for a box that overlaps no object enough."""

NEITHER = -2
"""Index for a box whose overlap is too large for background and too small for an object; it counts in no loss."""


def match_boxes(
    objects: Tensor,
    boxes: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    each_object_has_one: bool = False,
    closest_iou: float | None = None,
) -> Tensor:
    """Return the index of each box's object, ``BACKGROUND`` or ``NEITHER``, int64 ``[R]``.

    Without ``closest_iou`` the result equals that of torchvision's ``Matcher``. The host does not wait for the device.

    Args:
        objects: float32 ``[N, 4]``, xyxy; N may be 0.
        boxes: float32 ``[R, 4]``.
        positive_iou: overlap from which a box belongs to the object that it overlaps most.
        negative_iou: overlap below which it is background.
        each_object_has_one: whether a box that overlaps some object more than all other boxes do always belongs to an
            object: to the one that the box itself overlaps most.
        closest_iou: overlap from which the box that overlaps an object most belongs to this object, even if the box
            overlaps another one more; of several such objects to the last
            (DeepSceneSeg/EfficientPS:mmdet/core/bbox/assigners/max_iou_assigner.py, ``min_pos_iou``).
    """
    if len(objects) == 0 or len(boxes) == 0:
        return torch.full((len(boxes),), BACKGROUND, device=boxes.device)
    overlap = box_iou(objects, boxes)
    best, matched = overlap.max(dim=0)
    result = torch.where(best < negative_iou, BACKGROUND, torch.where(best < positive_iou, NEITHER, matched))
    if each_object_has_one or closest_iou is not None:
        most = overlap.amax(dim=1, keepdim=True)
        closest = overlap == most
        if closest_iou is None:
            return torch.where(closest.any(dim=0), matched, result)
        numbers = torch.arange(len(objects), device=boxes.device)[:, None]
        owner = torch.where(closest & (most >= closest_iou), numbers, BACKGROUND).amax(dim=0)
        result = torch.where(owner >= 0, owner, result)
    return result


def objects_of_all_images(matched: Sequence[Tensor], targets: Sequence[InstanceTargets]) -> Tensor:
    """Return matches in each image ``[R_i]`` as indices into the objects of all images in order, int64 ``[sum R_i]``.

    The index of a box that belongs to no object has no meaning.
    """
    first, shifted = 0, []
    for image, target in zip(matched, targets, strict=True):
        shifted.append(image + first if first else image)
        first += len(target["boxes"])
    return torch.cat(shifted)
