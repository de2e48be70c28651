"""Small networks with random weights for comparisons of devices, and the arguments of a small DETR for trainings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from efficientps.backbones import EfficientNetBackbone, ResNetBackbone
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.layers.norm_implementation import Implementation
from efficientps.networks.detr import Detector, DETRPanoptic
from efficientps.networks.efficientps import (
    EfficientPS,
    InstanceHead,
    MaskRCNNHead,
    SemanticHead,
    SOLOv2Head,
    TwoWayFPN,
)
from efficientps.networks.network import PanopticNetwork


def small_detr_arguments(*, num_queries: int) -> dict[str, object]:
    """Return constructor arguments of a small ``DETRPanoptic`` that learns from random weights, norms included."""
    return {
        "backbone": {"variant": "resnet10t", "pretrained": False, "frozen_stages": 0, "frozen_norms": False},
        "detector": {
            "channels": 128,
            "feed_forward": 256,
            "encoder_layers": 1,
            "decoder_layers": 3,
            "num_queries": num_queries,
            "dropout": 0,
        },
    }


def _efficientps(head: Callable[[int, int], InstanceHead], norms: Implementation) -> PanopticNetwork:
    network = EfficientPS(
        CITYSCAPES_CATEGORIES.num_stuff,
        CITYSCAPES_CATEGORIES.num_things,
        backbone=EfficientNetBackbone(variant="b0", pretrained=False),
        neck=partial(TwoWayFPN, out_channels=64),
        semantic_head=partial(SemanticHead, channels=64),
        instance_head=head,
        min_stuff_area=100,
        norm_implementation=norms,
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(network.instance_head, MaskRCNNHead):
        network.instance_head.rpn.sampler.batch_size_per_image = 10**6
    network.instance_head.score_thresh = -1.0
    _spread(network)
    return network


@torch.no_grad()
def _spread(network: EfficientPS) -> None:
    """Scale the last layers so that scores, classes and masks vary over the image, as those of a trained network do.

    Random weights give nearly constant logits: every map would show one class and no instance, so a comparison of maps
    would find no error.
    """
    image = torch.randint(256, (1, 3, 128, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    head = network.eval().instance_head
    pyramid = network.pyramid(image, [(128, 256)])
    logits = network.semantic_head(pyramid)
    mean = logits.mean(dim=(0, 2, 3))
    classifier = network.semantic_head.classifier
    factor = 3 / (logits - mean[:, None, None]).std()
    classifier.weight *= factor
    assert classifier.bias is not None
    classifier.bias.copy_(factor * (classifier.bias - mean))
    if isinstance(head, MaskRCNNHead):
        head.box_branch.predictor.cls_score.weight *= 20
    masks = head.predict(pyramid, [(128, 256)])[0].mask_logits
    head.mask_logit_scale = float(6 / masks.std())


_MASK_RCNN = partial(
    MaskRCNNHead,
    box_hidden=128,
    mask_channels=64,
    box_samples_per_image=10**6,
    rpn_proposals_train=50,
    rpn_proposals_test=50,
)

_SOLOV2 = partial(
    SOLOv2Head,
    preset="light",
    channels=64,
    detection_thresh=-1.0,
    update_thresh=-1.0,
    score_thresh=-1.0,
    nms_pre=100,
)


def _detr() -> PanopticNetwork:
    return DETRPanoptic(
        CITYSCAPES_CATEGORIES.num_stuff,
        CITYSCAPES_CATEGORIES.num_things,
        backbone=ResNetBackbone(pretrained=False),
        detector=partial(
            Detector, num_queries=60, channels=64, feed_forward=128, encoder_layers=1, decoder_layers=2, dropout=0.0
        ),
        score_thresh=0.0,
        detection_thresh=0.0,
    )


KINDS: dict[str, Callable[[], PanopticNetwork]] = {
    "Mask R-CNN, in_place": partial(_efficientps, _MASK_RCNN, "in_place"),
    "SOLOv2, in_place": partial(_efficientps, _SOLOV2, "in_place"),
    "DETR joint": _detr,
    "Mask R-CNN, eager": partial(_efficientps, _MASK_RCNN, "eager"),
    "Mask R-CNN, triton": partial(_efficientps, _MASK_RCNN, "triton"),
    "SOLOv2, triton": partial(_efficientps, _SOLOV2, "triton"),
}
"""Builders of small networks with random weights, by name; the most important come first."""
