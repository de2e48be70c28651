"""Training targets, derived from segment ids after all geometry, on the device of the ids.

Crowd regions have their class in the semantic target and are no instances; void and padding are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from efficientps.structures import IGNORE_INDEX, InstanceTargets, PanopticBatch, Segment, TrainingBatch
from efficientps.structures.boxes_of_masks import boxes_of_masks, occupied


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
    return _semantic_target(segment_ids, _tables([segments], segment_ids.device)[0], canvas)


def instance_targets(
    segment_ids: Tensor,
    segments: Sequence[Segment],
    canvas: tuple[int, int],
    *,
    num_stuff: int,
) -> InstanceTargets:
    """Return the instances of a map: things that are no crowd, with boxes that enclose their visible pixels.

    Args:
        segment_ids: int32 ``[h, w]``.
        segments: the segments of the map.
        canvas: (H, W), at least (h, w); the map lies in its top-left corner.
        num_stuff: number of stuff classes; ``thing_id = train_id - num_stuff``.

    Returns:
        Labels, half-open boxes and masks of N instances in the order of ``segments``; N may be 0.
    """
    tables = _tables([segments], segment_ids.device)
    return _instance_targets([segment_ids], tables, canvas, num_stuff=num_stuff)[0]


def training_batch(batch: PanopticBatch, num_stuff: int) -> TrainingBatch:
    """Derive semantic and instance targets of a batch, on the canvas of its images and on their device.

    The host copies to the device once and waits for it once, however many images there are; a second copy follows if an
    instance has no pixel in sight.
    """
    canvas = (batch["images"].shape[-2], batch["images"].shape[-1])
    maps = batch["segment_ids"]
    tables = _tables(batch["segments"], batch["images"].device)
    return TrainingBatch(
        images=batch["images"],
        image_sizes=batch["image_sizes"],
        original_sizes=batch["original_sizes"],
        image_ids=batch["image_ids"],
        segment_ids=batch["segment_ids"],
        segments=batch["segments"],
        semantic=torch.stack([_semantic_target(ids, table, canvas) for ids, table in zip(maps, tables, strict=True)]),
        instances=_instance_targets(maps, tables, canvas, num_stuff=num_stuff),
    )


class _Table(NamedTuple):
    """The segments of one image on the device: S of them by rising id, and N things that are no crowd, in order."""

    ids: Tensor  # int32 [S]
    train_ids: Tensor  # int64 [S]
    thing_ids: Tensor  # int32 [N], ids of segments
    thing_train_ids: Tensor  # int64 [N]


def _tables(images: Sequence[Sequence[Segment]], device: torch.device) -> list[_Table]:
    """Return the table of each image's segments, from one copy to the device."""
    ordered = [sorted(segments, key=lambda segment: segment.id) for segments in images]
    things = [[segment for segment in segments if segment.is_thing and not segment.is_crowd] for segments in images]
    rows = [row for pair in zip(ordered, things, strict=True) for row in pair]
    lengths = [len(row) for row in rows]
    numbers = [[s.id for row in rows for s in row], [s.train_id for row in rows for s in row]]
    ids, train_ids = torch.tensor(numbers, dtype=torch.int64, device=device)
    columns = list(zip(torch.split(ids.int(), lengths), torch.split(train_ids, lengths), strict=True))
    return [
        _Table(*all_of_them, *instances) for all_of_them, instances in zip(columns[::2], columns[1::2], strict=True)
    ]


def _semantic_target(segment_ids: Tensor, table: _Table, canvas: tuple[int, int]) -> Tensor:
    h, w = segment_ids.shape
    target = torch.full(canvas, IGNORE_INDEX, dtype=torch.int64, device=segment_ids.device)
    if len(table.ids):
        place = torch.searchsorted(table.ids, segment_ids.contiguous(), out_int32=True).clamp_(max=len(table.ids) - 1)
        target[:h, :w] = torch.where(table.ids[place] == segment_ids, table.train_ids[place], IGNORE_INDEX)
    return target


def _instance_targets(
    maps: Sequence[Tensor],
    tables: Sequence[_Table],
    canvas: tuple[int, int],
    *,
    num_stuff: int,
) -> list[InstanceTargets]:
    """Return what ``instance_targets`` returns for each of several maps."""
    all_masks = [_masks(segment_ids, table.thing_ids, canvas) for segment_ids, table in zip(maps, tables, strict=True)]
    visible = [occupied(masks, dim=2).any(dim=1).bool() for masks in all_masks]
    seen = iter(torch.cat(visible).tolist())
    kept = [[place for place in range(len(masks)) if next(seen)] for masks in all_masks]
    labels = [table.thing_train_ids - num_stuff for table in tables]
    if any(len(places) < len(masks) for places, masks in zip(kept, all_masks, strict=True)):
        joined = torch.tensor([place for places in kept for place in places], dtype=torch.int64, device=maps[0].device)
        chosen = torch.split(joined, [len(places) for places in kept])
        labels = [numbers.index_select(0, places) for numbers, places in zip(labels, chosen, strict=True)]
        all_masks = [
            masks.index_select(0, places) if len(places) < len(masks) else masks
            for masks, places in zip(all_masks, chosen, strict=True)
        ]
    return [
        InstanceTargets(labels=numbers, boxes=boxes_of_masks(masks), masks=masks)
        for numbers, masks in zip(labels, all_masks, strict=True)
    ]


def _masks(segment_ids: Tensor, ids: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Return the mask bool ``[N, H, W]`` of each of N ids."""
    h, w = segment_ids.shape
    masks = torch.zeros(len(ids), *canvas, dtype=torch.bool, device=segment_ids.device)
    torch.eq(segment_ids, ids[:, None, None], out=masks[:, :h, :w])
    return masks
