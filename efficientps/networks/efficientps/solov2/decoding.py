"""Turn the best cells of an image into instances: draw masks, suppress duplicates, compute boxes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from efficientps.networks.efficientps.solov2.mask_drawing import draw_masks, dynamic_convolution
from efficientps.networks.efficientps.solov2.matrix_nms import matrix_nms
from efficientps.networks.efficientps.solov2.tensor_cache import TensorCache
from efficientps.networks.efficientps.solov2.tight_boxes import boxes_from_ends, tight_boxes
from efficientps.structures import InstancePredictions


class Candidates(NamedTuple):
    """The N best pairs of a cell and a class of one image."""

    scores: Tensor  # float32 [N], falling
    labels: Tensor  # int64 [N], thing_id
    kernels: Tensor  # [N, E]
    least_areas: Tensor  # int64 [N], cells of stride 4 that a mask must exceed


def decode_image(
    candidates: Candidates,
    features: Tensor,
    image_size: tuple[int, int],
    *,
    nms_kernel: Literal["gaussian", "linear"],
    nms_sigma: float,
    update_thresh: float,
    max_detections: int,
    mask_thresh: float,
    mask_logit_limit: float,
    tables: TensorCache,
) -> InstancePredictions:
    """Return the instances of one image by falling score.

    The score of a candidate is its category score times the mean probability inside its mask times the factor of
    Matrix NMS (WXinlong/SOLO:mmdet/models/anchor_heads/solov2_head.py).

    Args:
        candidates: N of them.
        features: ``[E, H/4, W/4]``, mask features of the padded image.
        image_size: valid ``(h, w)``; what lies beyond it is not read.
        nms_kernel: how Matrix NMS turns overlaps into factors of the scores.
        nms_sigma: sigma of the Gaussian kernel of Matrix NMS.
        update_thresh: lowest score of an instance.
        max_detections: most instances.
        mask_thresh: a mask is where the probability is higher than this number; mask logits are shifted so that they
            are positive there.
        mask_logit_limit: mask logits are clamped to plus and minus this value.
        tables: keeps the frame of the masks for the next image of this size.
    """
    _, labels, kernels, _ = candidates
    height, width = (math.ceil(side / 4) for side in image_size)
    features = features[:, :height, :width].flatten(1).view(-1, height, width)  # copied once, if at all

    masks, maskness = draw_masks(kernels, features, mask_thresh)
    large = masks.sum(dim=1) > candidates.least_areas
    scores = candidates.scores * maskness
    if masks.is_cuda:
        # Small masks get a score of 0 and are dropped below; to drop them here, the host would have to wait.
        scores = scores * large
    else:
        masks, kernels, labels, scores = masks[large], kernels[large], labels[large], scores[large]

    scores = matrix_nms(masks, labels, scores, kernel=nms_kernel, sigma=nms_sigma)
    scores, order = scores.topk(min(max_detections, len(scores)))
    number = int((scores > max(update_thresh, 0.0)).sum())
    scores, order = scores[:number], order[:number]
    labels, kernels = labels[order], kernels[order]

    mask_logits = dynamic_convolution(kernels, features)
    if mask_thresh != 0.5:
        mask_logits = mask_logits - math.log(mask_thresh / (1 - mask_thresh))
    mask_logits = mask_logits.clamp(-mask_logit_limit, mask_logit_limit)
    frame = tables.get(_frame, height, width, mask_logits.dtype, device=mask_logits.device)
    frames = frame.repeat(number, 1)
    boxes, sure = boxes_from_ends(mask_logits, image_size)
    if bool((sure & (boxes[:, 2] > boxes[:, 0])).all()):
        return InstancePredictions(scores, labels, boxes, mask_logits, frames)
    boxes = tight_boxes(mask_logits, image_size)
    instances = InstancePredictions(scores, labels, boxes, mask_logits, frames)
    return instances[(boxes[:, 2] > boxes[:, 0]).nonzero().flatten()]


def _frame(height: int, width: int, dtype: torch.dtype, *, device: torch.device) -> Tensor:
    """Return the rectangle in pixels that masks of a height and a width at stride 4 cover, ``[4]``."""
    return torch.tensor([0, 0, 4 * width, 4 * height], dtype=dtype, device=device)
