"""From the masks of queries to a panoptic map (facebookresearch/detr:models/segmentation.py, PostProcessPanoptic)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efficientps.structures import VOID, PanopticSegmentation, Segment

MAX_DROPPED_AREA = 4
"""Segments of at most so many pixels are dropped (the authors')."""

StuffMerge = Literal["union", "first"]
"""What becomes of several queries of one stuff class, see ``panoptic_map``."""


def panoptic_map(
    mask_logits: Tensor,
    train_ids: Sequence[int],
    scores: Sequence[float],
    *,
    canvas: tuple[int, int],
    image_size: tuple[int, int],
    num_stuff: int,
    stuff_merge: StuffMerge = "union",
) -> PanopticSegmentation:
    """Give each pixel to the query of the highest logit; queries of one stuff class are one segment.

    Segments of at most 4 pixels are dropped, and their pixels go to the others, until there are none. Every pixel has
    a segment if there is a query at all. Ids are 1, 2, 3 ... in the order of the queries, 0 being void; the authors
    count from 0.

    Args:
        mask_logits: ``[N, H/4, W/4]`` of the queries that are sure enough, on the whole canvas.
        train_ids: their classes.
        scores: theirs, in [0, 1].
        canvas: ``(H, W)``. Logits are brought to its size and then cropped to the image: resizing what covers the
            canvas to the image, as the authors do, would stretch it.
        image_size: valid ``(h, w)``.
        num_stuff: classes below it are stuff.
        stuff_merge: ``union`` makes all pixels of a stuff class' queries one segment, with the first query's score.
            ``first`` is the authors' code: where something is to be dropped, the pixels of the second and later
            queries of a class go to whichever other query is next, of any class. (It is always so where there are two:
            the later ones have been left without pixels by then, and are themselves dropped.)
    """
    segment_ids = torch.full(image_size, VOID, dtype=torch.int32, device=mask_logits.device)
    # The query that stands for each: itself, or the first one of its stuff class.
    first = [train_ids.index(train_id) if train_id < num_stuff else i for i, train_id in enumerate(train_ids)]
    kept = list(range(len(train_ids)))
    joint = True
    while kept:
        owner = _highest(mask_logits, kept, canvas, image_size)
        owner = torch.tensor(first if joint else range(len(first)), device=owner.device)[owner]
        areas = torch.bincount(owner.flatten(), minlength=len(first)).tolist()
        alive = {i for i in kept if areas[i] > MAX_DROPPED_AREA}
        remaining = [i for i in kept if (first[i] if joint and stuff_merge == "union" else i) in alive]
        if len(remaining) == len(kept):
            break
        kept, joint = remaining, stuff_merge == "union"
    segments = []
    for number, query in enumerate(sorted(alive) if kept else (), start=1):
        segment_ids[owner == query] = number
        segments.append(Segment(number, train_ids[query], train_ids[query] >= num_stuff, score=scores[query]))
    return PanopticSegmentation(segment_ids, segments)


def _highest(mask_logits: Tensor, kept: Sequence[int], canvas: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Return the query int64 ``[h, w]`` of the highest logit in each pixel, the first of equals, one mask at a time.

    The softmax over the queries, which the authors take before, does not change it.
    """
    height, width = image_size
    best = mask_logits.new_full(image_size, -torch.inf, dtype=torch.float32)
    owner = torch.full(image_size, kept[0], device=mask_logits.device)
    for query in kept:
        logits = mask_logits[query, None, None].float()
        logits = interpolate(logits, size=canvas, mode="bilinear")[0, 0, :height, :width]
        is_higher = logits > best
        best = torch.where(is_higher, logits, best)
        owner[is_higher] = query
    return owner
