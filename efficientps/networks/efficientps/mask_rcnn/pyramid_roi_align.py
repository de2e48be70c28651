"""RoIAlign over a pyramid: each box is read from the level that suits its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import roi_align

from efficientps.networks.efficientps.mask_rcnn.cpu_roi_align import roi_align_channels_last
from efficientps.structures import STRIDES, FeaturePyramid

_FAR_OUTSIDE = -1e6
"""Distance in pixels that moves a box more than a cell outside of every map."""


def assign_levels(boxes: Tensor, finest_scale: float = 56.0) -> Tensor:
    """Return for each box ``[R, 4]`` the index of its pyramid level, int64 ``[R]``.

    A box of 224x224 pixels belongs to stride 16 and each halving of its side to the next finer level (Lin et al.,
    "Feature Pyramid Networks for Object Detection", Eq. 1).

    Args:
        boxes: xyxy in pixels.
        finest_scale: boxes of less than twice this side belong to stride 4 (56, DeepSceneSeg/EfficientPS:configs).

        >>> assign_levels(torch.tensor([[0.0, 0, 60, 60], [0, 0, 112, 112], [0, 0, 223, 223], [0, 0, 900, 900]]))
        tensor([0, 1, 1, 3])
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    scales = (sides[:, 0] * sides[:, 1]).sqrt() / finest_scale
    return (scales + 1e-6).log2().clamp(0, len(STRIDES) - 1).long()  # floors, as all are positive


def pyramid_roi_align(
    pyramid: FeaturePyramid,
    boxes: Sequence[Tensor],
    *,
    output_size: int,
    sampling_ratio: int = 2,
    aligned: bool = True,
    finest_scale: float = 56.0,
    shift: float = 0.0,
) -> Tensor:
    """Return the features of boxes, ``[R, channels, output_size, output_size]``, R over all images in order.

    Half precision becomes float32, in which boxes are precise enough; float64 stays.

    Args:
        pyramid: P4 to P32.
        boxes: boxes of each image, float32 ``[R_i, 4]``, xyxy in pixels.
        output_size: bins along each side.
        sampling_ratio: samples along each side of a bin.
        aligned: pixel centres at half-integers; False is the legacy half-pixel shift of torchvision's own heads.
        finest_scale: boxes of less than twice this side belong to stride 4.
        shift: shift of the boxes to the right and down, in strides of their level.
    """
    rois = torch.cat([pad(image, (1, 0), value=float(index)) for index, image in enumerate(boxes)])
    levels = assign_levels(rois[:, 1:], finest_scale)
    if shift:
        rois[:, 1:] += shift * (STRIDES[0] * 2.0**levels)[:, None]  # each level doubles the stride
    dtype = torch.promote_types(pyramid.p4.dtype, torch.float32)
    rois, features = rois.to(dtype), [level.to(dtype) for level in pyramid]
    # torchvision's deterministic kernel reads something even far outside of a map.
    align = align_all if rois.is_cuda and not torch.are_deterministic_algorithms_enabled() else align_chosen
    return align(features, rois, levels, output_size=output_size, sampling_ratio=sampling_ratio, aligned=aligned)


def align_chosen(
    features: Sequence[Tensor], rois: Tensor, levels: Tensor, *, output_size: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Return the features of boxes, ``[R, channels, output_size, output_size]``: each level pools its own boxes.

    Args:
        features: features of each level, finest first, float ``[B, channels, H/s, W/s]``.
        rois: ``[R, 5]`` of the same type, index of the image and box xyxy in pixels.
        levels: int64 ``[R]``, index of each box's level.
        output_size: bins along each side.
        sampling_ratio: samples along each side of a bin.
        aligned: whether the centres of pixels are at half-integers.
    """
    pooled = rois.new_zeros((len(rois), features[0].shape[1], output_size, output_size))
    for level, (maps, stride) in enumerate(zip(features, STRIDES, strict=True)):
        chosen = (levels == level).nonzero().squeeze(1)
        # Called for every level, empty ones too: each stays part of the graph.
        if aligned and not maps.is_cuda:
            values = roi_align_channels_last(
                maps, rois[chosen], output_size=output_size, stride=stride, sampling_ratio=sampling_ratio
            )
        else:
            values = roi_align(maps, rois[chosen], output_size, 1 / stride, sampling_ratio, aligned)
        pooled.index_put_((chosen,), values)
    return pooled


def align_all(
    features: Sequence[Tensor], rois: Tensor, levels: Tensor, *, output_size: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Return what ``align_chosen`` returns, without waiting for the device: each level pools all boxes.

    The boxes of other levels lie far outside of the map, where torchvision's kernel reads nothing and returns zeros,
    which the sum over the levels does not notice.
    """
    others = levels != torch.arange(len(features), device=levels.device)[:, None]
    boxes = rois[:, 1:].masked_fill(others[..., None], _FAR_OUTSIDE)
    level_rois = torch.cat([rois[:, :1].expand(len(features), -1, -1), boxes], dim=2)
    pooled: Iterator[Tensor] = (
        roi_align(maps, level_boxes, output_size, 1 / stride, sampling_ratio, aligned)
        for maps, level_boxes, stride in zip(features, level_rois, STRIDES, strict=True)
    )
    total = next(pooled)
    for values in pooled:
        total = total.add_(values)
    return total
