"""Panoptic fusion: semantic logits and instances become one panoptic map (EfficientPS, Sec. 3.5). No parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from efficientps.structures import VOID, InstancePredictions, PanopticSegmentation, Segment


def fused_logits(mask_logits: Tensor, semantic_logits: Tensor) -> Tensor:
    """Return FL = (sigmoid(A) + sigmoid(B)) * (A + B), element by element (EfficientPS, Eq. 3).

    Args:
        mask_logits: A, of the instance head.
        semantic_logits: B, of the semantic head for the instance's class, of the same shape.

    Two that agree add up, two that contradict each other cancel out:

        >>> fused_logits(torch.tensor([2.0, 2.0]), torch.tensor([2.0, -2.0]))
        tensor([7.0464, 0.0000])
    """
    return (mask_logits.sigmoid() + semantic_logits.sigmoid()) * (mask_logits + semantic_logits)


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

    1. Instances above ``score_thresh`` go down by score; one whose mask lies by more than ``overlap_thresh`` of its
       own area on masks accepted before is dropped.
    2. Inside its box, an instance's fused logits compete with those of the other instances and with the stuff logits;
       the highest takes the pixel, stuff and then the better score on equality. Outside its box an instance takes no
       part: read literally, the published formula gives it FL = 0 there, which would beat negative stuff logits.
    3. What no instance takes goes to the semantic argmax over all classes where that is a stuff class, and stays void
       where it is a thing class. Stuff classes left with less than ``min_stuff_area`` pixels become void.

    One running canvas of best scores is kept and each instance visits its box once: nothing of size ``[N, h, w]`` is
    built, and a device is waited for a fixed number of times per image, not once per instance.

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
    instances = instances[instances.scores > score_thresh]
    instances = instances[instances.scores.argsort(descending=True, stable=True)]
    # The maximum with its index takes a tenth of the time of argmax on a CPU; on equality both name the first.
    best, stuff = semantic_logits[:num_stuff].max(dim=0)

    # Codes: stuff class t -> t + 1; instance i -> num_stuff + 1 + i; 0 is void.
    code = stuff.to(torch.int32).add_(1)
    del stuff
    if len(semantic_logits) > num_stuff:
        code.masked_fill_(semantic_logits[num_stuff:].amax(dim=0) > best, VOID)
    _draw_instances(
        code, best.float(), semantic_logits, instances, num_stuff, overlap_thresh=overlap_thresh, scale=mask_logit_scale
    )
    areas = torch.bincount(code.flatten(), minlength=num_stuff + 1 + len(instances)).tolist()
    labels, scores = instances.labels.tolist(), instances.scores.tolist()
    ids = [VOID] * len(areas)
    segments: list[Segment] = []
    for position, area in enumerate(areas[1:], start=1):
        is_thing = position > num_stuff
        if area < (1 if is_thing else max(1, min_stuff_area)):
            continue
        ids[position] = len(segments) + 1
        if is_thing:
            instance = position - num_stuff - 1
            segments.append(Segment(ids[position], num_stuff + labels[instance], True, scores[instance]))
        else:
            segments.append(Segment(ids[position], position - 1, False))
    lookup = torch.tensor(ids, dtype=torch.int32, device=code.device)
    return PanopticSegmentation(lookup.index_select(0, code.flatten()).view(code.shape), segments)


def _draw_instances(
    code: Tensor,
    best: Tensor,
    semantic_logits: Tensor,
    instances: InstancePredictions,
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
        num_stuff: number of stuff classes.
        overlap_thresh: largest covered share of a mask.
        scale: factor of the mask logits.
    """
    height, width = best.shape
    occupied = torch.zeros(height, width, dtype=torch.bool, device=best.device)
    labels = instances.labels.tolist()
    for index, window in enumerate(instances.windows((height, width))):
        x0, y0, x1, y1 = window
        if x0 == x1 or y0 == y1:
            continue
        inside = (slice(y0, y1), slice(x0, x1))
        mask_logits = instances.render(index, window)
        mask = mask_logits > 0
        # Decided on the device: a dropped instance goes on, and takes no pixel.
        is_kept = (mask & occupied[inside]).sum() <= overlap_thresh * mask.sum()
        occupied[inside] |= mask & is_kept
        logits = fused_logits(scale * mask_logits, semantic_logits[num_stuff + labels[index]][inside].float())
        wins = (logits > best[inside]) & is_kept
        best[inside] = torch.where(wins, logits, best[inside])
        code[inside].masked_fill_(wins, num_stuff + 1 + index)
