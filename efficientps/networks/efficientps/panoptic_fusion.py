"""Panoptic fusion: semantic logits and instances become one panoptic map (EfficientPS, Sec. 3.5). No parameters."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from efficientps.networks.efficientps.competition_everywhere import draw_everywhere
from efficientps.networks.efficientps.fused_logits import fused_logits
from efficientps.networks.efficientps.packed_fusion import draw_packed, renumber
from efficientps.networks.image_logits import DenseLogits, ImageLogits, Window
from efficientps.structures import (
    VOID,
    HostDetections,
    InstancePredictions,
    PanopticSegmentation,
    Segment,
    pixel_windows,
)

__all__ = ["SemanticMaps", "fused_logits", "panoptic_fusion", "semantic_maps"]

_PIXELS_AT_ONCE = 2**22
"""Pixels of one instance that are drawn at once, twice those of an image of Cityscapes. One takes about 25 bytes."""

_LARGEST_PACKED_WINDOW = 2**24
"""Pixels. ``draw_packed`` takes about 70 bytes for each pixel of a window; larger ones are drawn in parts."""


class SemanticMaps(NamedTuple):
    """The highest semantic logits of each pixel of an image, and their classes.

    Attributes:
        best: float32 ``[h, w]``, the highest stuff logit.
        stuff: int64 or int32 ``[h, w]``, the class of the highest logit + 1 where that is a stuff class, 0 elsewhere.
        classes: uint8 ``[h, w]``, the class of the highest logit, the first of equal ones.
    """

    best: Tensor
    stuff: Tensor
    classes: Tensor


def semantic_maps(semantic_logits: ImageLogits, num_stuff: int) -> SemanticMaps:
    """Find the highest semantic logits of each pixel, a stripe of the image at a time."""
    whole: SemanticMaps | None = None
    for rows, logits in semantic_logits.stripes():
        # The maximum with its index takes a tenth of the time of argmax on a CPU; on equality both name the first.
        best, stuff = logits[:num_stuff].max(dim=0)
        code = stuff.add_(1) if _draws_at_once(logits.device) else stuff.to(torch.int32).add_(1)
        classes = (code - 1).to(torch.uint8)
        if len(logits) > num_stuff:
            thing_logit, thing = logits[num_stuff:].max(dim=0)
            is_thing = thing_logit > best
            code.masked_fill_(is_thing, VOID)
            classes = torch.where(is_thing, thing.add_(num_stuff).to(torch.uint8), classes)
        stripe = SemanticMaps(best.float(), code, classes)
        if len(best) == semantic_logits.size[0]:
            return stripe
        if whole is None:
            whole = SemanticMaps(*(values.new_empty(semantic_logits.size) for values in stripe))
        for to, values in zip(whole, stripe, strict=True):
            to[rows] = values
    assert whole is not None
    return whole


def panoptic_fusion(
    semantic_logits: Tensor | ImageLogits,
    instances: InstancePredictions,
    *,
    num_stuff: int,
    maps: SemanticMaps | None = None,
    score_thresh: float = 0.5,
    overlap_thresh: float = 0.5,
    min_stuff_area: int = 2048,
    mask_logit_scale: float = 1.0,
    competes_everywhere: bool = False,
) -> PanopticSegmentation:
    """Fuse the two heads of one image into a panoptic map, at the size of the image file.

    1. Instances above ``score_thresh`` are visited by falling score; one is dropped if more than ``overlap_thresh`` of
       its mask is already covered by masks that were accepted before.
    2. Inside its box, an instance's fused logits compete with those of the other instances and with the stuff logits;
       the highest takes the pixel, stuff and then the better score on equality. Outside its box an instance takes no
       part: read literally, the published formula gives it FL = 0 there, which would beat negative stuff logits. The
       authors' code reads it so, see ``competes_everywhere``.
    3. A pixel that no instance takes gets the class of its highest semantic logit, if that is a stuff class; otherwise
       it stays void. Stuff classes left with less than ``min_stuff_area`` pixels become void.

    One running canvas of best scores is kept and each instance visits its box once: nothing of size ``[N, h, w]`` is
    built, and semantic logits are enlarged in stripes and windows. A GPU draws all instances at once, see
    ``draw_packed``, and is waited for twice: for the boxes and scores, and for the areas.

    Args:
        semantic_logits: before the softmax, stuff channels first: a float tensor ``[C, h, w]``, or logits of a
            network's canvas (``logits_of_image``). The map has their size.
        instances: instances of the same image, at the same size.
        num_stuff: number of stuff classes.
        maps: the result of ``semantic_maps`` for these logits, if the caller has it; it is overwritten.
        score_thresh: lowest score of an instance (0.5, DeepSceneSeg/EfficientPS:configs, ``test_cfg``).
        overlap_thresh: largest covered share of a mask (0.5, from the same ``test_cfg``).
        min_stuff_area: pixels of the map (2048, from the same ``test_cfg``, for maps of 1024x2048).
        mask_logit_scale: factor of the mask logits (1 in the paper, 4 in the authors' efficientPS.py).
        competes_everywhere: whether an instance competes outside of its box, too (``draw_everywhere``).

    Returns:
        The map; ids count from 1, stuff first.

    A hand-worked example of one row and three pixels, with one stuff and one thing class. The only instance covers
    pixels 1 and 2 with mask logit 2; the thing's semantic logits there are 2 and -2, so that FL is 7.05 and 0:

        >>> semantic = torch.tensor([[[3.0, 3.0, 3.0]], [[-1.0, 2.0, -2.0]]])
        >>> box = torch.tensor([[1.0, 0.0, 3.0, 1.0]])
        >>> instance = InstancePredictions(
        ...     scores=torch.tensor([0.9]), labels=torch.tensor([0]), boxes=box,
        ...     mask_logits=torch.full((1, 1, 1), 2.0), mask_frames=box)
        >>> panoptic = panoptic_fusion(semantic, instance, num_stuff=1, min_stuff_area=1)
        >>> panoptic.segment_ids
        tensor([[1, 2, 1]], dtype=torch.int32)
        >>> [(segment.id, segment.train_id) for segment in panoptic.segments]
        [(1, 0), (2, 1)]
    """
    logits = DenseLogits(semantic_logits) if isinstance(semantic_logits, Tensor) else semantic_logits
    detections, order = _sure_instances(instances.on_host(), score_thresh)
    if len(order) and not 0 <= int(detections.labels.min()) <= int(detections.labels.max()) < len(logits) - num_stuff:
        raise ValueError(
            f"The instances have thing_ids from {int(detections.labels.min())} to {int(detections.labels.max())}; the "
            f"semantic logits have channels for 0..{len(logits) - num_stuff - 1} behind those of stuff."
        )
    windows = pixel_windows(detections.boxes, logits.size)
    # Codes: stuff class t -> t + 1; instance i -> num_stuff + 1 + i; 0 is void.
    best, code, _ = semantic_maps(logits, num_stuff) if maps is None else maps
    del maps
    never = 2**31 - 1
    minimum_areas = torch.tensor([never] + num_stuff * [max(1, min_stuff_area)] + len(order) * [1], dtype=torch.int32)
    if not competes_everywhere and _draws_at_once(code.device) and _largest(windows) <= _LARGEST_PACKED_WINDOW:
        segment_ids, areas = draw_packed(
            code,
            best,
            logits,
            instances.mask_logits,
            detections,
            order,
            minimum_areas,
            num_stuff=num_stuff,
            overlap_thresh=overlap_thresh,
            scale=mask_logit_scale,
        )
    else:
        draw = draw_everywhere if competes_everywhere else partial(_draw_one_by_one, windows=windows)
        draw(
            code,
            best,
            logits,
            instances[order.to(code.device)],
            num_stuff + detections.labels,
            num_stuff,
            overlap_thresh=overlap_thresh,
            scale=mask_logit_scale,
        )
        del best
        segment_ids, areas = _renumber_in_parts(code, minimum_areas.to(code.device))
    return PanopticSegmentation(segment_ids, _segments(areas, minimum_areas.tolist(), detections, num_stuff))


def _renumber_in_parts(code: Tensor, minimum_areas: Tensor) -> tuple[Tensor, list[int]]:
    """Count the pixels of each code and renumber the codes; a map int32 is overwritten, which saves its memory.

    Args:
        code: integer ``[h, w]``.
        minimum_areas: int32 ``[M]``, how many pixels make a code a segment.

    Returns:
        The segment ids, int32 ``[h, w]``, and the number of pixels of each code.
    """
    code = code.contiguous()
    parts = torch.split(code.view(-1), _PIXELS_AT_ONCE)
    counts = sum(torch.bincount(part, minlength=len(minimum_areas)) for part in parts)
    assert isinstance(counts, Tensor)
    segment_ids = code if code.dtype == torch.int32 else torch.empty_like(code, dtype=torch.int32)
    for to, part in zip(torch.split(segment_ids.view(-1), _PIXELS_AT_ONCE), parts, strict=True):
        to.copy_(renumber(part, counts, minimum_areas))
    return segment_ids, counts.tolist()


def _draws_at_once(device: torch.device) -> bool:
    """Tell whether to draw all instances at once: a CPU takes 4 times as long to do so, as windows fit its cache."""
    return device.type == "cuda"


def _largest(windows: Tensor) -> int:
    """Return the pixels of the largest window."""
    extents = windows[:, 2:] - windows[:, :2]
    return int(extents.prod(dim=1).max()) if len(windows) else 0


def _sure_instances(detections: HostDetections, score_thresh: float) -> tuple[HostDetections, Tensor]:
    """Return the instances above a score, the highest first, and their positions, int64 ``[K]``."""
    is_sure = detections.scores > score_thresh
    scores = detections.scores.masked_fill(~is_sure, -torch.inf)
    order = scores.argsort(descending=True, stable=True)[: int(is_sure.sum())]
    return HostDetections(*(values[order] for values in detections)), order


def _segments(areas: list[int], minimum_areas: list[int], detections: HostDetections, num_stuff: int) -> list[Segment]:
    """List the codes with at least the minimum area, with the ids that ``renumber`` gives them."""
    labels, scores = detections.labels.tolist(), detections.scores.tolist()
    segments: list[Segment] = []
    for code, (area, minimum) in enumerate(zip(areas, minimum_areas, strict=True)):
        if area < minimum:
            continue
        instance, number = code - num_stuff - 1, len(segments) + 1
        if instance < 0:
            segments.append(Segment(number, code - 1, False))
        else:
            segments.append(Segment(number, num_stuff + labels[instance], True, scores[instance]))
    return segments


def _draw_one_by_one(
    code: Tensor,
    best: Tensor,
    semantic_logits: ImageLogits,
    instances: InstancePredictions,
    channels: Tensor,
    num_stuff: int,
    *,
    windows: Tensor,
    overlap_thresh: float,
    scale: float,
) -> None:
    """Write ``num_stuff + 1 + i`` into each pixel that instance i takes, one instance after the other.

    Args:
        code: integer ``[h, w]``; written.
        best: the best stuff logit of each pixel, float32 ``[h, w]``; overwritten.
        semantic_logits: semantic logits of C classes.
        instances: instances by falling score.
        channels: int64 ``[N]``, of the instances' classes in the semantic logits; in the host's memory.
        num_stuff: number of stuff classes.
        windows: int64 ``[N, 4]``, in the host's memory.
        overlap_thresh: largest covered share of a mask.
        scale: factor of the mask logits.
    """
    height, width = best.shape
    occupied = torch.zeros(height, width, dtype=torch.bool, device=best.device)
    for index, (channel, (x0, y0, x1, y1)) in enumerate(zip(channels.tolist(), windows.tolist(), strict=True)):
        parts = list(_parts((x0, y0, x1, y1)))
        covered, area = torch.zeros((2,), dtype=torch.int64, device=best.device).unbind()
        places, mask_logits = [], []
        for part in parts:
            inside = (slice(part[1], part[3]), slice(part[0], part[2]))
            logits = instances.render(index, part)
            mask = logits > 0
            covered, area = covered + (mask & occupied[inside]).sum(), area + mask.sum()
            places.append((inside, mask))
            # Rendered a second time where the window is large, in place of being kept.
            mask_logits.append(logits if len(parts) == 1 else None)
        # Decided on the device: a dropped instance goes on, and takes no pixel.
        is_kept = covered <= overlap_thresh * area
        for part, (inside, mask), rendered in zip(parts, places, mask_logits, strict=True):
            occupied[inside] |= mask & is_kept
            logits = instances.render(index, part) if rendered is None else rendered
            logits = fused_logits(scale * logits, semantic_logits.window(channel, part).float())
            wins = (logits > best[inside]) & is_kept
            best[inside] = torch.where(wins, logits, best[inside])
            code[inside].masked_fill_(wins, num_stuff + 1 + index)


def _parts(window: Window) -> Iterator[Window]:
    """Split a window into parts of whole rows, of at most ``_PIXELS_AT_ONCE`` pixels or of one row; none if empty."""
    x0, y0, x1, y1 = window
    if x0 == x1:
        return
    step = max(1, _PIXELS_AT_ONCE // (x1 - x0))
    for top in range(y0, y1, step):
        yield x0, top, x1, min(top + step, y1)
