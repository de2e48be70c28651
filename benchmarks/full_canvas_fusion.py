"""A plain implementation of the panoptic fusion (EfficientPS, Sec. 3.5): every instance on a canvas of image size.

Benchmarks and tests compare ``panoptic_fusion`` with it. It follows the steps of the paper in their order: it pastes
each instance onto a full canvas, stacks the canvases and takes one argmax.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from efficientps.networks.efficientps.fused_logits import fused_logits
from efficientps.structures import VOID, InstancePredictions, PanopticSegmentation, Segment


def full_canvas_fusion(
    semantic_logits: Tensor,
    instances: InstancePredictions,
    *,
    num_stuff: int,
    score_thresh: float = 0.5,
    overlap_thresh: float = 0.5,
    min_stuff_area: int = 2048,
    mask_logit_scale: float = 1.0,
) -> PanopticSegmentation:
    """Fuse semantic logits and instances; arguments and result are those of ``panoptic_fusion``."""
    height, width = semantic_logits.shape[-2:]
    order = [i for i in instances.scores.argsort(descending=True, stable=True).tolist()]
    order = [i for i in order if instances.scores[i] > score_thresh]
    occupied = torch.zeros(height, width, dtype=torch.bool, device=semantic_logits.device)
    kept: list[int] = []
    canvases: list[Tensor] = []
    for i in order:
        mask_logits, inside = _paste(instances, i, (height, width))
        mask = (mask_logits > 0) & inside
        if (mask & occupied).sum() > overlap_thresh * mask.sum():
            continue
        occupied |= mask
        semantic = semantic_logits[num_stuff + int(instances.labels[i])].float()
        kept.append(i)
        canvases.append(fused_logits(mask_logit_scale * mask_logits, semantic).masked_fill(~inside, -torch.inf))
    winner = torch.cat([semantic_logits[:num_stuff].float(), *(canvas[None] for canvas in canvases)]).argmax(dim=0)
    semantic_class = semantic_logits.argmax(dim=0)

    segment_ids = torch.zeros(height, width, dtype=torch.int32, device=semantic_logits.device)
    segments: list[Segment] = []
    for train_id in range(num_stuff):
        where = (winner < num_stuff) & (semantic_class == train_id)
        if where.sum() >= max(1, min_stuff_area):
            segments.append(Segment(len(segments) + 1, train_id, False))
            segment_ids[where] = segments[-1].id
    for position, i in enumerate(kept):
        where = winner == num_stuff + position
        if where.any():
            train_id = num_stuff + int(instances.labels[i])
            segments.append(Segment(len(segments) + 1, train_id, True, float(instances.scores[i])))
            segment_ids[where] = segments[-1].id
    assert VOID not in {segment.id for segment in segments}
    return PanopticSegmentation(segment_ids, segments)


def _paste(instances: InstancePredictions, index: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return one instance's mask logits over the whole image, float32 ``[h, w]``, and the mask of its box, bool."""
    (x0, y0, x1, y1), (left, top, right, bottom) = instances.boxes[index], instances.mask_frames[index]
    x, y = (torch.arange(extent, device=x0.device) + 0.5 for extent in size[::-1])
    columns, rows = 2 * (x - left) / (right - left) - 1, 2 * (y - top) / (bottom - top) - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    # The logits are constant beyond the centres of the outermost cells.
    mask_logits = grid_sample(
        instances.mask_logits[index][None, None].float(), grid[None], padding_mode="border", align_corners=False
    )[0, 0]
    inside = ((y >= y0) & (y < y1))[:, None] & (x >= x0) & (x < x1)
    return mask_logits, inside
