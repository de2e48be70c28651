"""Make networks with random weights predict a given number of instances in every image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.batches import street_batch
from benchmarks.scenes import street_instances
from efficientps.layers.norm_act import InPlaceABN
from efficientps.networks.detr.network import DETRPanoptic
from efficientps.networks.efficientps import MaskRCNNHead, SOLOv2Head
from efficientps.networks.efficientps.network import EfficientPS
from efficientps.networks.network import PanopticNetwork

_SPECK = 64
"""Smallest area of a mask, in cells of stride 4; a SOLOv2 head drops masks with fewer cells than its grid's stride."""


def force_instances(network: PanopticNetwork, number: int) -> None:
    """Make a network pass its ``number`` best instances to the fusion, independent of its weights.

    The thresholds of the head are set below any score. The norms get the statistics of two street scenes, because with
    their initial statistics random weights produce features in the millions and boxes outside of the image. DETR
    predicts one candidate per query: build it with ``number`` queries.

    Raises:
        TypeError: the class of the network's instance head is not supported.
    """
    _calibrate(network)
    if isinstance(network, DETRPanoptic):
        network.score_thresh = network.detection_thresh = -1.0
        return
    head = cast(EfficientPS, network).instance_head
    if isinstance(head, MaskRCNNHead):
        head.score_thresh = head.box_branch.detection_thresh = -1.0
        head.box_branch.max_detections = number
    elif isinstance(head, SOLOv2Head):
        head.score_thresh = head.detection_thresh = head.update_thresh = -1.0
        head.max_detections = number
    else:
        raise TypeError(f"The thresholds of {type(head).__name__} are not known; add them to force_instances.")


def draw_street_masks(network: PanopticNetwork, size: tuple[int, int], move: Callable[[Tensor], Tensor]) -> None:
    """Make a SOLOv2 head return masks of street objects, one per channel, instead of masks of random weights.

    Random masks cover the whole image, so fusing them takes other work than fusing the masks of a trained network. The
    head still computes everything; its kernels and features are replaced afterwards. Other heads are not changed.

    Args:
        network: the network; later copies of it return street masks, too, on the same device.
        size: (height, width) of the image.
        move: moves a tensor to the network's device.
    """
    head: Any = getattr(network, "instance_head", None)
    original = getattr(head, "decode", None)
    if original is None or not isinstance(getattr(network, "instance_head", None), SOLOv2Head):
        return
    prepared: list[Tensor] = []

    def decode(pyramid: object, dense: tuple[Tensor, ...], image_sizes: object) -> Any:
        scores, labels, kernels, strides, features = dense
        if not prepared:
            number = features.shape[1]
            channels = torch.eye(number)[torch.arange(kernels.shape[1]) % number]
            prepared.append(move(channels.to(kernels.dtype)[None]))
            prepared.append(move(_street_masks(number, size).to(features.dtype)[None]))
        return original(pyramid, (scores, labels, prepared[0], strides, prepared[1]), image_sizes)

    head.decode = decode


def _street_masks(number: int, size: tuple[int, int]) -> Tensor:
    """Return mask logits of street objects larger than ``_SPECK``, float32 ``[number, h / 4, w / 4]``."""
    instances = street_instances(4 * number, size)
    boxes = instances.boxes.div(4).round().long()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    chosen = (areas > _SPECK).nonzero().flatten()
    masks = torch.full((number, size[0] // 4, size[1] // 4), -6.0)
    for position, mask in enumerate(masks):
        index = int(chosen[position % len(chosen)])
        left, top, right, bottom = boxes[index].tolist()
        extent = (bottom - top, right - left)
        mask[top:bottom, left:right] = interpolate(instances.mask_logits[None, None, index], size=extent)[0, 0]
    return masks


def _calibrate(network: PanopticNetwork) -> None:
    """Set the running statistics of all norms to those of one batch, and switch the network to evaluation mode."""
    norms = [module for module in network.modules() if isinstance(module, (InPlaceABN, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    device = next(network.parameters()).device
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train().loss(street_batch(2, (128, 256), device=str(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
