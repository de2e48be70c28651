"""The part of the panoptic fusion that draws the instances, all of them at once, for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientps.networks.efficientps.fused_logits import fused_logits
from efficientps.networks.image_logits import ImageLogits
from efficientps.structures import HostDetections, pixel_windows
from efficientps.structures.packed_windows import ENTRIES_AT_ONCE, PackedWindows, pack, render

ROUNDS = 4
"""Rounds of ``_drop`` before the host checks whether they were enough; they suffice for chains of four instances."""

_NO_CODE = 2**31 - 1
"""Stands for no code. It is higher than every code, because the lowest code is searched."""


def draw_packed(
    code: Tensor,
    best: Tensor,
    semantic_logits: ImageLogits,
    mask_logits: Tensor,
    detections: HostDetections,
    order: Tensor,
    minimum_areas: Tensor,
    *,
    num_stuff: int,
    overlap_thresh: float,
    scale: float,
    rounds: int = ROUNDS,
    entries_at_once: int = ENTRIES_AT_ONCE,
) -> tuple[Tensor, list[int]]:
    """Draw all instances over the stuff at once, with the result of drawing them one after the other.

    The number of operations does not grow with the instances, unless their windows have more than
    ``entries_at_once`` pixels in all. The host copies one small table to the device and waits for it once. It starts
    again with more rounds if the overlaps depend on one another in a longer chain than ``rounds`` can follow.

    Codes: 0 is void, stuff class t is t + 1, instance i is num_stuff + 1 + i. M is the number of codes.

    Args:
        code: int64 ``[h, w]``, codes of void and stuff.
        best: float32 ``[h, w]``, the best stuff logit of each pixel.
        semantic_logits: semantic logits of C classes at the size of the map, stuff channels first.
        mask_logits: float ``[N, m, n]``.
        detections: the K instances that are drawn, by falling score.
        order: int64 ``[K]``, the position of each among the N; in the host's memory.
        minimum_areas: int32 ``[M]``, how many pixels make a code a segment; in the host's memory.
        num_stuff: number of stuff classes.
        overlap_thresh: largest covered share of a mask.
        scale: factor of the mask logits.
        rounds: rounds of decisions about overlaps in the first attempt.
        entries_at_once: pixels of windows that are drawn together.

    Returns:
        The segment ids, int32 ``[h, w]``, and the number of pixels of each code.
    """

    def of_each_code(values: Tensor) -> Tensor:
        """Void and stuff are instances with empty windows: so one number serves as window and as code."""
        return torch.cat([values.new_zeros(num_stuff + 1, *values.shape[1:]), values])

    size = (code.shape[0], code.shape[1])
    windows = of_each_code(pixel_windows(detections.boxes, size))
    frames, grids, channels = (
        of_each_code(values) for values in (detections.mask_frames, order, num_stuff + detections.labels)
    )
    grid_size = (mask_logits.shape[1], mask_logits.shape[2])
    packed = pack(windows, frames, grids, grid_size, entries_at_once=entries_at_once)
    codes = torch.tensor([_NO_CODE, *range(1, len(windows))], dtype=torch.int32)
    one = torch.ones(1, 1, dtype=torch.int32)
    packed, (codes, channels, minimum_areas, one) = packed.to(code.device, codes, channels.int(), minimum_areas, one)
    while True:
        drawn, decisions = _draw(
            code,
            best,
            semantic_logits,
            mask_logits,
            packed,
            codes,
            channels,
            overlap_thresh=overlap_thresh,
            scale=scale,
            rounds=rounds,
        )
        areas = _areas(drawn, len(codes), one)
        segment_ids = renumber(drawn, areas, minimum_areas)
        areas_on_host, *decisions_on_host = torch.stack([areas, *decisions]).tolist()  # the only wait
        if decisions_on_host[0::2] == decisions_on_host[1::2]:
            return segment_ids, areas_on_host
        rounds *= 4


def renumber(code: Tensor, areas: Tensor, minimum_areas: Tensor) -> Tensor:
    """Give the codes with at least the minimum area the ids 1, 2, ... and the others ``VOID``; int32 ``[h, w]``."""
    is_segment = areas >= minimum_areas
    ids = is_segment.cumsum(dim=0, dtype=torch.int32) * is_segment
    return ids.index_select(0, code.flatten()).view(code.shape)


def _draw(
    code: Tensor,
    best: Tensor,
    semantic_logits: ImageLogits,
    mask_logits: Tensor,
    packed: PackedWindows,
    codes: Tensor,
    channels: Tensor,
    *,
    overlap_thresh: float,
    scale: float,
    rounds: int,
) -> tuple[Tensor, list[Tensor]]:
    """Return the codes of all pixels, int64 ``[h, w]``, and the last two decisions of each group, bool ``[M]`` each."""
    shape = code.shape
    code, best = code.flatten(), best.flatten()
    first = torch.full_like(code, _NO_CODE, dtype=torch.int32)
    decisions: list[Tensor] = []
    for group in range(len(packed.sizes)):
        window, x, y, logits = render(mask_logits, packed, group)
        semantic = semantic_logits.at(channels.index_select(0, window), y, x).float()
        pixel = torch.empty_like(x, dtype=torch.int64)
        torch.add(x, y, alpha=shape[1], out=pixel)
        del x, y
        last_two, first = _drop(window, pixel, logits > 0, first, packed.bounds[group], codes, overlap_thresh, rounds)
        decisions += last_two
        logits = fused_logits(logits if scale == 1 else scale * logits, semantic)
        del semantic
        code, best = _take(code, best, window, pixel, logits, last_two[1])
    return code.view(shape), decisions


def _drop(
    window: Tensor,
    pixel: Tensor,
    mask: Tensor,
    first: Tensor,
    bounds: Tensor,
    codes: Tensor,
    overlap_thresh: float,
    rounds: int,
) -> tuple[list[Tensor], Tensor]:
    """Drop instances of whose mask more than ``overlap_thresh`` is covered by masks that were accepted before.

    Whether an instance is accepted depends only on those before it. Each round decides about all instances again, from
    the decisions of the round before. If the decisions about the first k instances are right, the next round is right
    about one more; if a round changes nothing, all are right. A chain of n instances, each of which covers the next one
    by more than ``overlap_thresh``, takes n rounds at most.

    Args:
        window: int32 ``[T]``, the code of each entry of a group of windows.
        pixel: int64 ``[T]``, the flat pixel of each entry.
        mask: bool ``[T]``, whether the entry belongs to the instance's mask.
        first: int32 ``[h * w]``, the lowest code among the accepted masks of earlier groups.
        bounds: int32 ``[2, M]``, between which the entries of each code lie.
        codes: int32 ``[M]``, 0, 1, 2 ... M - 1, with ``_NO_CODE`` in place of 0.
        overlap_thresh: largest share of a mask that earlier masks may cover.
        rounds: at least 2.

    Returns:
        Whether each code is dropped, bool ``[M]``, after the last round but one and after the last; and ``first``
        with this group.
    """
    claim = mask * window  # 0, the code of void, outside of the mask
    total = torch.zeros(len(mask) + 1, dtype=torch.int32, device=mask.device)

    def count(where: Tensor) -> Tensor:
        """Count in each window: the entries of one window lie side by side."""
        torch.cumsum(where, 0, dtype=torch.int32, out=total[1:])
        at_bounds = total.index_select(0, bounds.flatten())
        return at_bounds[len(codes) :] - at_bounds[: len(codes)]

    allowed = overlap_thresh * count(mask)
    decisions: list[Tensor] = []
    for _ in range(rounds):
        accepted = codes.masked_fill(decisions[-1], _NO_CODE) if decisions else codes
        covering = first.scatter_reduce(0, pixel, accepted.index_select(0, claim), "amin")
        decisions.append(count(covering.index_select(0, pixel) < claim) > allowed)
    return decisions[-2:], covering


def _take(
    code: Tensor, best: Tensor, window: Tensor, pixel: Tensor, logits: Tensor, is_dropped: Tensor
) -> tuple[Tensor, Tensor]:
    """Give each pixel to the highest logit above the best one so far; of equal ones, to the lowest code.

    Args:
        code: int64 ``[h * w]``, of stuff and of earlier groups.
        best: float32 ``[h * w]``, their best logits.
        window: int32 ``[T]``, the code of each entry.
        pixel: int64 ``[T]``.
        logits: float32 ``[T]``, fused.
        is_dropped: bool ``[M]``.

    Returns:
        ``code`` and ``best`` with this group drawn.
    """
    # A logit that is no number never wins.
    logits = logits.masked_fill(is_dropped.index_select(0, window), -torch.inf)
    logits.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    highest = best.scatter_reduce(0, pixel, logits, "amax")
    claim = window.masked_fill(logits != highest.index_select(0, pixel), _NO_CODE).long()
    # Where nobody beats the best so far its code stays: it is lower than all codes of this group.
    code = code.masked_fill(highest > best, _NO_CODE).scatter_reduce_(0, pixel, claim, "amin")
    return code, highest


def _areas(code: Tensor, number: int, one: Tensor) -> Tensor:
    """Count the pixels of each code, int64 ``[number]``, without waiting for the device as ``bincount`` does."""
    # Each column counts for itself, so that few threads add to the same place.
    counts = torch.zeros(number, code.shape[1], dtype=torch.int32, device=code.device)
    return counts.scatter_add_(0, code, one.expand_as(code)).sum(dim=1)
