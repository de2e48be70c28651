"""The part of the panoptic fusion that draws instances which compete for every pixel of the image.

The authors' code (DeepSceneSeg/EfficientPS:mmdet/models/efficientps/efficientPS.py, ``simple_test_mask_``) reads the
published formula literally: outside of its box an instance has mask and semantic logits of 0, so FL = 0, which beats
stuff logits that are all negative. Its semantic logits count only for the whole pixels inside of its box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from efficientps.networks.efficientps.fused_logits import fused_logits
from efficientps.networks.image_logits import ImageLogits
from efficientps.structures import InstancePredictions, pixel_windows


def draw_everywhere(
    code: Tensor,
    best: Tensor,
    semantic_logits: ImageLogits,
    instances: InstancePredictions,
    channels: Tensor,
    num_stuff: int,
    *,
    overlap_thresh: float,
    scale: float,
) -> None:
    """Write ``num_stuff + 1 + i`` into each pixel that instance i takes, one instance after the other.

    Args:
        code: integer ``[h, w]``; written.
        best: the best stuff logit of each pixel, float32 ``[h, w]``; overwritten.
        semantic_logits: semantic logits of C classes at the size of the map.
        instances: instances by falling score; the mask logits of each are 0 outside of its frame.
        channels: int64 ``[N]``, of the instances' classes in the semantic logits; in the host's memory.
        num_stuff: number of stuff classes.
        overlap_thresh: largest covered share of a mask.
        scale: factor of the mask logits.
    """
    size = (best.shape[0], best.shape[1])
    on_host = instances.on_host()
    whole_pixels = _whole_pixels(on_host.boxes, size)
    frames = pixel_windows(on_host.mask_frames, size)
    windows = torch.cat([frames[:, :2].minimum(whole_pixels[:, :2]), frames[:, 2:].maximum(whole_pixels[:, 2:])], dim=1)
    occupied = torch.zeros(size, dtype=torch.bool, device=best.device)
    for index, (channel, (x0, y0, x1, y1), (left, top, right, bottom)) in enumerate(
        zip(channels.tolist(), windows.tolist(), whole_pixels.tolist(), strict=True)
    ):
        inside = (slice(y0, y1), slice(x0, x1))
        mask_logits = instances.render(index, (x0, y0, x1, y1))
        semantic = torch.zeros_like(mask_logits)
        semantic[top - y0 : bottom - y0, left - x0 : right - x0] = semantic_logits.window(
            channel, (left, top, right, bottom)
        )
        mask = mask_logits > 0
        # Decided on the device: a dropped instance goes on, and takes no pixel.
        is_kept = (mask & occupied[inside]).sum() <= overlap_thresh * mask.sum()
        occupied[inside] |= mask & is_kept
        everywhere = torch.zeros_like(best)
        everywhere[inside] = fused_logits(scale * mask_logits, semantic)
        wins = (everywhere > best) & is_kept
        best.copy_(torch.where(wins, everywhere, best))
        code.masked_fill_(wins, num_stuff + 1 + index)


def _whole_pixels(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return the pixels of boxes ``[N, 4]`` whose semantic logits count, half-open windows, int64 ``[N, 4]``.

    Along an axis these are the pixels from ``int(low + 1)`` to ``round(last - 1)``, the last one included, for a box
    from ``low`` to the pixel ``last``, one less than its half-open end.
    """
    height, width = image_size
    limits = boxes.new_tensor([width, height])
    low = (boxes[:, :2] + 1).trunc().clamp(min=0).minimum(limits)
    high = ((boxes[:, 2:] - 2).round() + 1).clamp(min=0).minimum(limits)
    return torch.cat([low, high.maximum(low)], dim=1).long()
