"""Networks with random weights that find exactly so many instances in every image."""

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
"""Cells of stride 4: a SOLOv2 head drops masks of less than the stride of their grid."""


def force_instances(network: PanopticNetwork, number: int) -> None:
    """Let a network hand this many instances to the fusion, the best of all candidates, whatever its weights are.

    The thresholds of its head become lower than any score, and the norms take the statistics of two street scenes:
    those that random weights begin with let features grow to millions, and boxes lie outside of the image. DETR has a
    candidate for each query: build it with so many queries.

    Raises:
        TypeError: the network has an instance head that is not known here.
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
        raise TypeError(f"{type(head).__name__} has no thresholds that are known here.")


def draw_street_masks(network: PanopticNetwork, size: tuple[int, int], move: Callable[[Tensor], Tensor]) -> None:
    """Let a SOLOv2 head draw the masks of a street, one for each channel, in place of those of random weights.

    Random masks cover the whole image: to fuse them is another work than to fuse those of a trained network. The head
    computes all that it would; only then its kernels and features are replaced. Other heads stay as they are.

    Args:
        network: that predicts; copies that are made of it later draw such masks as well, on the same device.
        size: (height, width) of the image.
        move: brings a tensor to the network's device.
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
    """Return mask logits of objects of a street that are no specks, float32 ``[number, h / 4, w / 4]``."""
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
    """Let norms take the statistics of one batch; the network is in evaluation mode afterwards."""
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
