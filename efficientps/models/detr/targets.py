"""The segments of an image as DETR learns them: things and stuff alike, each with class, box and mask."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, masks_to_boxes

from efficientps.structures import TrainingBatch


class SegmentTargets(NamedTuple):
    """The N segments of an image; crowd regions of things are none."""

    labels: Tensor  # int64 [N], train_id
    boxes: Tensor  # float32 [N, 4], cxcywh as fractions of the valid image
    masks: Tensor  # bool [N, H, W]


def segment_targets(batch: TrainingBatch, num_stuff: int) -> list[SegmentTargets]:
    """Join the things of each image and its stuff, of which a class is one segment, stuff first.

    Boxes are half-open: a segment as wide as the image has the width 1, and one of a single pixel is no line.
    """
    targets = []
    for semantic, things, size in zip(batch["semantic"], batch["instances"], batch["image_sizes"], strict=True):
        classes = semantic.unique()
        classes = classes[classes < num_stuff]
        stuff = semantic == classes[:, None, None]
        boxes = torch.cat([_boxes(stuff), things["boxes"]])
        height, width = size
        targets.append(
            SegmentTargets(
                labels=torch.cat([classes, things["labels"] + num_stuff]),
                boxes=box_convert(boxes, "xyxy", "cxcywh") / boxes.new_tensor([width, height, width, height]),
                masks=torch.cat([stuff, things["masks"]]),
            )
        )
    return targets


def _boxes(masks: Tensor) -> Tensor:
    """Return the half-open boxes of masks; those of ``masks_to_boxes`` end at the last pixel and not behind it."""
    boxes: Tensor = masks_to_boxes(masks)
    boxes[:, 2:] += 1
    return boxes
