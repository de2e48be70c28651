"""What the losses compare with, derived from segment ids after all geometry, on whichever device they lie.

Crowd regions count as their class in the semantic target and are no instances; void and padding count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from efficientps.structures import IGNORE_INDEX, InstanceTargets, PanopticBatch, Segment, TrainingBatch


def semantic_target(segment_ids: Tensor, segments: Sequence[Segment], canvas: tuple[int, int]) -> Tensor:
    """Return the class of each pixel of the canvas.

    Args:
        segment_ids: int32 ``[h, w]``.
        segments: the segments of the map, crowd regions among them; a pixel of any other id is void.
        canvas: (H, W), at least (h, w); the map lies in its top-left corner.

    Returns:
        int64 ``[H, W]``: the train_id, ``IGNORE_INDEX`` where void or padding.

    >>> ids = torch.tensor([[7, 7, 0]], dtype=torch.int32)
    >>> semantic_target(ids, [Segment(id=7, train_id=2, is_thing=False)], canvas=(2, 4)).tolist()
    [[2, 2, 255, 255], [255, 255, 255, 255]]
    """
    h, w = segment_ids.shape
    target = torch.full(canvas, IGNORE_INDEX, dtype=torch.int64, device=segment_ids.device)
    if segments:
        ordered = sorted(segments, key=lambda segment: segment.id)
        ids = torch.tensor([segment.id for segment in ordered], dtype=torch.int32, device=segment_ids.device)
        train_ids = torch.tensor([segment.train_id for segment in ordered], device=segment_ids.device)
        place = torch.searchsorted(ids, segment_ids.contiguous(), out_int32=True).clamp_(max=len(ordered) - 1)
        target[:h, :w] = torch.where(ids[place] == segment_ids, train_ids[place], IGNORE_INDEX)
    return target


def instance_targets(
    segment_ids: Tensor,
    segments: Sequence[Segment],
    canvas: tuple[int, int],
    *,
    num_stuff: int,
    min_area: int = 1,
) -> InstanceTargets:
    """Return the instances of a map: things that are no crowd, with boxes that enclose their visible pixels.

    Args:
        segment_ids: int32 ``[h, w]``.
        segments: the segments of the map.
        canvas: (H, W), at least (h, w); the map lies in its top-left corner.
        num_stuff: number of stuff classes; ``thing_id = train_id - num_stuff``.
        min_area: instances with fewer visible pixels are left out.

    Returns:
        Labels, half-open boxes and masks of N instances in the order of ``segments``; N may be 0.
    """
    device = segment_ids.device
    h, w = segment_ids.shape
    things = [segment for segment in segments if segment.is_thing and not segment.is_crowd]
    ids = torch.tensor([segment.id for segment in things], dtype=torch.int32, device=device)
    labels = torch.tensor([segment.train_id - num_stuff for segment in things], dtype=torch.int64, device=device)
    masks = torch.zeros(len(things), *canvas, dtype=torch.bool, device=device)
    torch.eq(segment_ids, ids[:, None, None], out=masks[:, :h, :w])
    visible = masks.sum(dim=(1, 2)) >= min_area if min_area > 1 else _occupied(masks, dim=2).any(dim=1).bool()
    if not visible.all():
        labels, masks = labels[visible], masks[visible]
    return InstanceTargets(labels=labels, boxes=boxes_of_masks(masks), masks=masks)


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Return the half-open box float32 ``[N, 4]`` (xyxy) of each mask bool ``[N, H, W]``; no mask may be empty.

    >>> boxes_of_masks(torch.tensor([[[False, True, True], [False, True, False]]])).tolist()
    [[1.0, 0.0, 3.0, 2.0]]
    """
    y0, y1 = _extent(_occupied(masks, dim=2))
    x0, x1 = _extent(_occupied(masks, dim=1))
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _occupied(masks: Tensor, dim: int) -> Tensor:
    """Return ``masks.any(dim)`` as uint8; the maximum of bytes takes a tenth of the time on a CPU."""
    return masks.view(torch.uint8).amax(dim=dim)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first occupied place and the one behind the last, int64 ``[N]`` each, of uint8 ``[N, L]``."""
    return occupied.argmax(dim=1), occupied.shape[1] - occupied.flip(1).argmax(dim=1)


def training_batch(batch: PanopticBatch, num_stuff: int) -> TrainingBatch:
    """Derive semantic and instance targets of a batch, on the canvas of its images and on their device."""
    canvas = (batch["images"].shape[-2], batch["images"].shape[-1])
    maps = list(zip(batch["segment_ids"], batch["segments"], strict=True))
    return TrainingBatch(
        images=batch["images"],
        image_sizes=batch["image_sizes"],
        original_sizes=batch["original_sizes"],
        image_ids=batch["image_ids"],
        segment_ids=batch["segment_ids"],
        segments=batch["segments"],
        semantic=torch.stack([semantic_target(ids, segments, canvas) for ids, segments in maps]),
        instances=[instance_targets(ids, segments, canvas, num_stuff=num_stuff) for ids, segments in maps],
    )
