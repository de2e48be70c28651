"""Panoptic fusion: semantic logits and instances become one panoptic map (EfficientPS, Sec. 3.5). No parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientps.networks.efficientps.fused_logits import fused_logits
from efficientps.networks.efficientps.packed_fusion import draw_packed, renumber
from efficientps.structures import (
    VOID,
    HostDetections,
    InstancePredictions,
    PanopticSegmentation,
    Segment,
    pixel_windows,
)

__all__ = ["fused_logits", "panoptic_fusion"]


def panoptic_fusion(
    semantic_logits: Tensor,
    instances: InstancePredictions,
    *,
    num_stuff: int,
    score_thresh: float = 0.5,
    overlap_thresh: float = 0.5,
    min_stuff_area: int = 2048,
    mask_logit_scale: float = 1.0,
) -> PanopticSegmentation:
    """Fuse the two heads of one image into a panoptic map.

    1. Instances above ``score_thresh`` are visited by falling score; one is dropped if more than ``overlap_thresh`` of
       its mask is already covered by masks that were accepted before.
    2. Inside its box, an instance's fused logits compete with those of the other instances and with the stuff logits;
       the highest takes the pixel, stuff and then the better score on equality. Outside its box an instance takes no
       part: read literally, the published formula gives it FL = 0 there, which would beat negative stuff logits.
    3. What no instance takes goes to the semantic argmax over all classes where that is a stuff class, and stays void
       where it is a thing class. Stuff classes left with less than ``min_stuff_area`` pixels become void.

    One running canvas of best scores is kept and each instance visits its box once: nothing of size ``[N, h, w]`` is
    built. A GPU draws all instances at once, see ``draw_packed``, and is waited for twice: for the boxes and scores,
    and for the areas.

    Args:
        semantic_logits: float ``[C, h, w]``, before the softmax, stuff channels first.
        instances: of the same image.
        num_stuff: number of stuff classes.
        score_thresh: lowest score of an instance (0.5, DeepSceneSeg/EfficientPS:configs, ``test_cfg``).
        overlap_thresh: largest covered share of a mask (0.5, the same).
        min_stuff_area: pixels (2048 at 1024x2048, the same).
        mask_logit_scale: factor of the mask logits (1 in the paper, 4 in the authors' efficientPS.py).

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
    found, order = _sure_instances(instances.on_host(), score_thresh)
    if len(order) and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(semantic_logits) - num_stuff:
        raise ValueError(
            f"The instances have thing_ids from {int(found.labels.min())} to {int(found.labels.max())}; the semantic "
            f"logits have channels for 0..{len(semantic_logits) - num_stuff - 1} behind those of stuff."
        )
    # The maximum with its index takes a tenth of the time of argmax on a CPU; on equality both name the first.
    best, stuff = semantic_logits[:num_stuff].max(dim=0)

    # Codes: stuff class t -> t + 1; instance i -> num_stuff + 1 + i; 0 is void.
    is_packed = _draws_at_once(stuff.device)
    code = (stuff if is_packed else stuff.to(torch.int32)).add_(1)
    del stuff
    if len(semantic_logits) > num_stuff:
        code.masked_fill_(semantic_logits[num_stuff:].amax(dim=0) > best, VOID)
    never = 2**31 - 1
    minimum_areas = torch.tensor([never] + num_stuff * [max(1, min_stuff_area)] + len(order) * [1], dtype=torch.int32)
    if is_packed:
        segment_ids, areas = draw_packed(
            code,
            best.float(),
            semantic_logits,
            instances.mask_logits,
            found,
            order,
            minimum_areas,
            num_stuff=num_stuff,
            overlap_thresh=overlap_thresh,
            scale=mask_logit_scale,
        )
    else:
        _draw_one_by_one(
            code,
            best.float(),
            semantic_logits,
            instances[order.to(code.device)],
            pixel_windows(found.boxes, (code.shape[0], code.shape[1])),
            num_stuff + found.labels,
            num_stuff,
            overlap_thresh=overlap_thresh,
            scale=mask_logit_scale,
        )
        counts = torch.bincount(code.flatten(), minlength=len(minimum_areas))
        segment_ids, areas = renumber(code, counts, minimum_areas.to(code.device)), counts.tolist()
    return PanopticSegmentation(segment_ids, _segments(areas, minimum_areas.tolist(), found, num_stuff))


def _draws_at_once(device: torch.device) -> bool:
    """Tell whether to draw all instances at once: a CPU takes 4 times as long to do so, as windows fit its cache."""
    return device.type == "cuda"


def _sure_instances(detections: HostDetections, score_thresh: float) -> tuple[HostDetections, Tensor]:
    """Return the instances above a score, the highest first, and their positions, int64 ``[K]``."""
    is_sure = detections.scores > score_thresh
    scores = detections.scores.masked_fill(~is_sure, -torch.inf)
    order = scores.argsort(descending=True, stable=True)[: int(is_sure.sum())]
    return HostDetections(*(values[order] for values in detections)), order


def _segments(areas: list[int], minimum_areas: list[int], found: HostDetections, num_stuff: int) -> list[Segment]:
    """List the codes with at least the minimum area, with the ids that ``renumber`` gives them."""
    labels, scores = found.labels.tolist(), found.scores.tolist()
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
    semantic_logits: Tensor,
    instances: InstancePredictions,
    windows: Tensor,
    channels: Tensor,
    num_stuff: int,
    *,
    overlap_thresh: float,
    scale: float,
) -> None:
    """Write ``num_stuff + 1 + i`` into each pixel that instance i takes, one instance after the other.

    Args:
        code: int32 ``[h, w]``; written.
        best: the best stuff logit of each pixel, float32 ``[h, w]``; overwritten.
        semantic_logits: ``[C, h, w]``.
        instances: by falling score.
        windows: int64 ``[N, 4]``, in the host's memory.
        channels: int64 ``[N]``, of the instances' classes in the semantic logits; in the host's memory.
        num_stuff: number of stuff classes.
        overlap_thresh: largest covered share of a mask.
        scale: factor of the mask logits.
    """
    height, width = best.shape
    occupied = torch.zeros(height, width, dtype=torch.bool, device=best.device)
    for index, (channel, (x0, y0, x1, y1)) in enumerate(zip(channels.tolist(), windows.tolist(), strict=True)):
        if x0 == x1 or y0 == y1:
            continue
        inside = (slice(y0, y1), slice(x0, x1))
        mask_logits = instances.render(index, (x0, y0, x1, y1))
        mask = mask_logits > 0
        # Decided on the device: a dropped instance goes on, and takes no pixel.
        is_kept = (mask & occupied[inside]).sum() <= overlap_thresh * mask.sum()
        occupied[inside] |= mask & is_kept
        logits = fused_logits(scale * mask_logits, semantic_logits[channel][inside].float())
        wins = (logits > best[inside]) & is_kept
        best[inside] = torch.where(wins, logits, best[inside])
        code[inside].masked_fill_(wins, num_stuff + 1 + index)
