"""The network that the authors released, in the parts of this package."""

from __future__ import annotations

from functools import partial

from efficientps.backbones.efficientnet import EfficientNetBackbone
from efficientps.networks.efficientps.mask_rcnn.head import MaskRCNNHead
from efficientps.networks.efficientps.network import EfficientPS
from efficientps.networks.efficientps.semantic_head import SemanticHead
from efficientps.networks.efficientps.two_way_fpn import TwoWayFPN


def authors_network(num_stuff: int = 11, num_things: int = 8) -> EfficientPS:
    """Build the network of ``configs/cityscapes_official.yaml``, with random weights.

    Args:
        num_stuff: number of stuff classes.
        num_things: number of thing classes.
    """
    return EfficientPS(
        num_stuff,
        num_things,
        backbone=partial(EfficientNetBackbone, variant="b5", pretrained=False, linear_first_stage=False),
        neck=partial(TwoWayFPN, separable_output=False),
        semantic_head=partial(SemanticHead, hard_pixel_scope="batch", intermediate_norm=True),
        instance_head=partial(
            MaskRCNNHead,
            intermediate_norm=True,
            mask_logit_scale=4.0,
            box_convention="mmdetection_1",
            normalizer_scope="device",
        ),
        image_mean=(106.433, 116.617, 119.559),
        image_std=(65.496, 67.6, 74.123),
    )
