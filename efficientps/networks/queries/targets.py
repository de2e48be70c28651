"""The segments of an image as targets of queries: things and stuff alike, each with class, box and mask."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert

from efficientps.structures import IGNORE_INDEX, TrainingBatch
from efficientps.structures.boxes_of_masks import boxes_of_masks


class SegmentTargets(NamedTuple):
    """The N segments of an image; crowd regions of things are not among them."""

    labels: Tensor  # int64 [N], train_id
    boxes: Tensor  # float32 [N, 4], cxcywh as fractions of the valid image
    masks: Tensor  # bool [N, H, W]


def segment_targets(batch: TrainingBatch, num_stuff: int) -> list[SegmentTargets]:
    """Return the segments of each image, stuff first; each stuff class of the image is one segment.

    Boxes are half-open: a segment as wide as the image has the width 1, and a segment of one pixel has an area above 0.
    """
    semantic, instances = batch["semantic"], batch["instances"]
    # The stuff classes of all images, for which the host waits once.
    occurs = torch.zeros(len(semantic), IGNORE_INDEX + 1, dtype=torch.bool, device=semantic.device)
    occurs.scatter_(1, semantic.flatten(1), True)
    present = [[i for i, there in enumerate(row) if there] for row in occurs[:, :num_stuff].tolist()]
    listed = torch.tensor([train_id for ids in present for train_id in ids], dtype=torch.int64)
    by_image = torch.split(listed.to(semantic.device, non_blocking=True), [len(ids) for ids in present])
    extents = torch.tensor([[width, height, width, height] for height, width in batch["image_sizes"]])
    extents = extents.float().to(semantic.device, non_blocking=True)
    targets = []
    for classes, things, of_image, extent in zip(by_image, instances, semantic, extents, strict=True):
        stuff = of_image == classes[:, None, None]
        boxes = torch.cat([boxes_of_masks(stuff), things["boxes"]])
        targets.append(
            SegmentTargets(
                labels=torch.cat([classes, things["labels"] + num_stuff]),
                boxes=box_convert(boxes, "xyxy", "cxcywh") / extent,
                masks=torch.cat([stuff, things["masks"]]),
            )
        )
    return targets
