"""RoIAlign over a pyramid: each box is read from the level that suits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from efficientps.models.mask_rcnn.roi_align import roi_align_channels_last
from efficientps.structures import FeaturePyramid

STRIDES = (4, 8, 16, 32)


def assign_levels(boxes: Tensor) -> Tensor:
    """Return for each box ``[R, 4]`` the index of its pyramid level, int64 ``[R]``.

    A box of 224x224 pixels belongs to stride 16 and each halving of its side to the next finer level (Lin et al.,
    "Feature Pyramid Networks for Object Detection", Eq. 1; DeepSceneSeg/EfficientPS: finest scale 56).

        >>> assign_levels(torch.tensor([[0.0, 0, 60, 60], [0, 0, 112, 112], [0, 0, 223, 223], [0, 0, 900, 900]]))
        tensor([0, 1, 1, 3])
    """
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (sides / 56 + 1e-6).log2().floor().clamp(0, len(STRIDES) - 1).long()


def pyramid_roi_align(
    pyramid: FeaturePyramid,
    boxes: Sequence[Tensor],
    *,
    output_size: int,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Return the features of boxes, ``[R, channels, output_size, output_size]``, R over all images in order.

    Half precision becomes float32, in which boxes are precise enough; float64 stays.

    Args:
        pyramid: P4 to P32.
        boxes: of each image, float32 ``[R_i, 4]``, xyxy in pixels.
        output_size: bins along each side.
        sampling_ratio: samples along each side of a bin.
        aligned: pixel centres at half-integers; False is the legacy half-pixel shift of torchvision's own heads.
    """
    image_index = torch.cat([b.new_full((len(b), 1), float(i)) for i, b in enumerate(boxes)])
    all_boxes = torch.cat(list(boxes))
    dtype = torch.promote_types(pyramid.p4.dtype, torch.float32)
    rois = torch.cat([image_index, all_boxes], dim=1).to(dtype)
    levels = assign_levels(all_boxes)
    pooled = pyramid.p4.new_zeros((len(rois), pyramid.p4.shape[1], output_size, output_size), dtype=dtype)
    for level, (features, stride) in enumerate(zip(pyramid, STRIDES, strict=True)):
        chosen = (levels == level).nonzero().squeeze(1)
        features = features.to(dtype)
        # Called for every level, empty ones too: each stays part of the graph.
        if aligned and not features.is_cuda:
            values = roi_align_channels_last(
                features, rois[chosen], output_size=output_size, stride=stride, sampling_ratio=sampling_ratio
            )
        else:
            values = roi_align(features, rois[chosen], output_size, 1 / stride, sampling_ratio, aligned)
        pooled = pooled.index_put((chosen,), values)
    return pooled
