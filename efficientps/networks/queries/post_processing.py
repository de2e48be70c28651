"""Turn masks of queries into a panoptic map (facebookresearch/detr:models/segmentation.py, PostProcessPanoptic)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from efficientps.networks.image_logits import ImageOnCanvas
from efficientps.structures import IGNORE_INDEX, VOID, PanopticSegmentation, Segment

MAX_DROPPED_AREA = 4
"""Segments of at most this number of pixels of the image file are dropped (the authors' number)."""

_MAPS_AT_A_TIME, _AREAS_AT_A_TIME, _PIXELS_AT_A_TIME = 16, 64, 2**21
"""Queries whose logits, and whose pixels, lie in memory together on a CUDA device, and in how many pixels of the image:
128 MiB each."""

_ROUNDS_AT_ONCE = 2
"""Rounds on a CUDA device before the host checks whether one more is needed.

Segments that remain after a round only gain pixels, so the second round is the last. With ``first`` there can be a
third round, because merged stuff is separated after the first.
"""

StuffMerge = Literal["union", "first"]
"""Treatment of several queries of one stuff class: one segment of all their pixels, or of the first query's alone."""


def panoptic_map(
    mask_logits: Tensor,
    train_ids: Sequence[int],
    scores: Sequence[float],
    *,
    canvas: tuple[int, int],
    image_size: tuple[int, int],
    size: tuple[int, int] | None = None,
    num_stuff: int,
    stuff_merge: StuffMerge = "union",
    max_dropped_area: int = MAX_DROPPED_AREA,
) -> PanopticSegmentation:
    """Give each pixel to the query of the highest logit; queries of one stuff class are one segment.

    Segments of at most ``max_dropped_area`` pixels are dropped, and their pixels go to the other segments, until none
    is that small. Every pixel has a segment if there is a query at all. Ids are 1, 2, 3 ... in the order of the
    queries, 0 being void; the authors count from 0.

    Args:
        mask_logits: ``[N, H/4, W/4]`` of the queries above the score threshold, on the whole canvas.
        train_ids: their classes.
        scores: their scores, in [0, 1].
        canvas: ``(H, W)``.
        image_size: ``(h, w)`` of the image in the canvas's top-left corner. To resize what covers the canvas to the
            image, as the authors do, would stretch it.
        size: size of the image file; logits are enlarged to it, and areas counted in its pixels. It is ``image_size``
            if None.
        num_stuff: classes below it are stuff.
        stuff_merge: ``union`` makes all pixels of a stuff class' queries one segment, with the first query's score.
            ``first`` is the authors' code: where something is to be dropped, the pixels of the second and later
            queries of a class go to whichever other query is next, of any class. (It is always so where there are two:
            the later ones have been left without pixels by then, and are themselves dropped.)
        max_dropped_area: in pixels of the image file.
    """
    size = size or image_size
    if not len(train_ids):
        return PanopticSegmentation(torch.full(size, VOID, dtype=torch.int32, device=mask_logits.device))
    cells = (mask_logits.shape[1], mask_logits.shape[2])
    masks = QueryMasks(mask_logits, ImageOnCanvas(cells, canvas, image_size, size, mask_logits.device))
    # The query that stands for each: itself, or the first one of its stuff class.
    first = [train_ids.index(train_id) if train_id < num_stuff else i for i, train_id in enumerate(train_ids)]
    # On a CPU, queries that are dropped cost nothing more; a CUDA device goes on without asking which they are.
    settle = _settle_on_device if mask_logits.is_cuda else _settle_on_cpu
    owner, is_segment, left = settle(masks, first, stuff_merge, max_dropped_area)
    segments = [
        Segment(number, train_ids[query], train_ids[query] >= num_stuff, score=scores[query])
        for number, query in enumerate(left, start=1)
    ]
    numbers = torch.where(is_segment, is_segment.cumsum(0), VOID).int()
    return PanopticSegmentation(_looked_up(numbers, owner), segments)


def semantic_map(panoptic: PanopticSegmentation) -> Tensor:
    """Return the class uint8 ``[h, w]`` of each pixel of a result of ``panoptic_map``; void is ``IGNORE_INDEX``."""
    classes = [IGNORE_INDEX, *(segment.train_id for segment in panoptic.segments)]  # ids are 1, 2, 3 ...
    table = torch.tensor(classes, dtype=torch.uint8).to(panoptic.segment_ids.device, non_blocking=True)
    return _looked_up(table, panoptic.segment_ids)


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    """Return ``table[index]`` for an index of int32, ``[h, w]``."""
    return table.index_select(0, index.flatten()).view(index.shape)


Settled: TypeAlias = tuple[Tensor, Tensor, list[int]]
"""The query of each pixel, int32 ``[h, w]``; which queries are segments, bool ``[N]``, and their numbers in a list."""


class QueryMasks(NamedTuple):
    """The masks of an image's N queries."""

    logits: Tensor  # [N, H/4, W/4]
    place: ImageOnCanvas


def _settle_on_cpu(
    masks: QueryMasks, first: Sequence[int], stuff_merge: StuffMerge, max_dropped_area: int = MAX_DROPPED_AREA
) -> Settled:
    """Drop small segments, round by round, until none is small."""
    kept = list(range(len(first)))
    joint = True
    while kept:
        owner = _highest(masks, kept)
        if joint:
            owner = _looked_up(torch.tensor(first, dtype=torch.int32), owner)
        areas = torch.bincount(owner.flatten(), minlength=len(first)).tolist()
        alive = {i for i in kept if areas[i] > max_dropped_area}
        remaining = [i for i in kept if (first[i] if joint and stuff_merge == "union" else i) in alive]
        if len(remaining) == len(kept):
            break
        kept, joint = remaining, stuff_merge == "union"
    return owner, torch.tensor([query in alive for query in range(len(first))]), sorted(alive)


def _settle_on_device(
    masks: QueryMasks, first: Sequence[int], stuff_merge: StuffMerge, max_dropped_area: int = MAX_DROPPED_AREA
) -> Settled:
    """Return what ``_settle_on_cpu`` returns, computed on the device of the logits.

    The host waits for the device after ``_ROUNDS_AT_ONCE`` rounds, and after each further one. That is right because a
    round in which no segment is small changes nothing.
    """
    first_of = torch.tensor(first, dtype=torch.int32).to(masks.logits.device, non_blocking=True)
    kept = torch.ones_like(first_of, dtype=torch.bool)
    joint, rounds = True, 0
    while True:
        owner = _highest_by_groups(masks, kept)
        if joint:
            owner = _looked_up(first_of, owner)
        alive = kept & (_areas(owner, len(first)) > max_dropped_area)
        remaining = kept & alive[first_of] if joint and stuff_merge == "union" else alive
        dropped = kept & ~remaining
        kept, joint, rounds = remaining, stuff_merge == "union", rounds + 1
        if rounds >= _ROUNDS_AT_ONCE:
            any_dropped, is_segment = torch.stack([dropped, alive]).tolist()
            if not any(any_dropped) or not any(is_segment):
                return owner, alive, [query for query, is_left in enumerate(is_segment) if is_left]


def _areas(owner: Tensor, number: int) -> Tensor:
    """Return the pixels int64 ``[N]`` of each query; ``bincount`` would wait for the device."""
    queries = torch.arange(number, device=owner.device)
    parts = torch.split(queries, _AREAS_AT_A_TIME)
    stripes = torch.split(owner, max(1, _PIXELS_AT_A_TIME // owner.shape[1]))
    by_stripe = [torch.cat([(rows == part[:, None, None]).sum(dim=(1, 2)) for part in parts]) for rows in stripes]
    return by_stripe[0] if len(by_stripe) == 1 else torch.stack(by_stripe).sum(dim=0)


def _highest(masks: QueryMasks, kept: Sequence[int]) -> Tensor:
    """Return the query int32 ``[h, w]`` of the highest logit in each pixel, the first of equals, one mask at a time.

    The softmax over the queries, which the authors take before, does not change it.
    """
    owner = torch.full(masks.place.size, kept[0], dtype=torch.int32, device=masks.logits.device)
    for rows in masks.place.stripes(_PIXELS_AT_A_TIME):
        of_rows = owner[rows]
        best = masks.logits.new_full(of_rows.shape, -torch.inf, dtype=torch.float32)
        for query in kept:
            logits = masks.place.rows(masks.logits[query : query + 1].float(), rows)[0]
            is_higher = logits > best
            best = torch.where(is_higher, logits, best)
            of_rows[is_higher] = query
    return owner


def _highest_by_groups(masks: QueryMasks, kept: Tensor) -> Tensor:
    """Return what ``_highest`` returns, a group of masks at a time; ``kept`` is bool ``[N]``."""
    # NaN is never the highest; the logits of a dropped query are set to NaN.
    logits = masks.logits.float().masked_fill(~kept[:, None, None], torch.nan)
    first = kept.int().argmax().int()
    stripes = []
    for rows in masks.place.stripes(_PIXELS_AT_A_TIME):
        best = logits.new_full((rows.stop - rows.start, masks.place.size[1]), -torch.inf)
        owner = first.expand(best.shape)
        for start in range(0, len(logits), _MAPS_AT_A_TIME):
            maps = masks.place.rows(logits[start : start + _MAPS_AT_A_TIME], rows)
            highest, query = maps.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).max(dim=0)
            is_higher = highest > best
            best = torch.where(is_higher, highest, best)
            owner = torch.where(is_higher, (query + start).int(), owner)
        stripes.append(owner)
    return stripes[0] if len(stripes) == 1 else torch.cat(stripes)
