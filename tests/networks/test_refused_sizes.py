"""Sizes that no network can be built from are refused in one sentence."""

import re
from functools import partial

import pytest

from efficientps.backbones import ResNetBackbone
from efficientps.layers.norm_act import GroupNormReLU
from efficientps.networks.detr import DETRPanoptic
from efficientps.networks.detr.detector import Detector
from efficientps.networks.efficientps import MaskRCNNHead, SemanticHead, SOLOv2Head, TwoWayFPN
from efficientps.networks.efficientps.mask_rcnn.box_branch import BoxBranch
from efficientps.networks.efficientps.mask_rcnn.mask_branch import MaskBranch
from efficientps.networks.efficientps.mask_rcnn.region_proposals import RegionProposalNetwork
from efficientps.networks.efficientps.solov2.mask_features import MaskFeatureBranch
from tests.sweep import sweep

ZERO = "of the {} is 0; it must be at least 1."
detector = partial(Detector, 32, 5)
detr = partial(DETRPanoptic, 5, 3, backbone=partial(ResNetBackbone, variant="resnet10t", pretrained=False))
solov2 = partial(SOLOv2Head, 3, 32)
groups = (
    "GroupNormReLU is to split 40 channels into 32 groups; the number of channels must be a multiple of num_groups."
)

CASES = [
    *((detector, {name: 0}, f"{name} {ZERO.format('detector')}") for name in (
        "num_queries", "channels", "num_heads", "feed_forward", "decoder_layers", "box_layers",
        "position_temperature"
    )),
    (detector, {"encoder_layers": -1}, "encoder_layers of the detector is -1; it must be at least 0."),
    (detector, {"dropout": 1}, "dropout of the detector is 1; it is a rate, from 0 up to but not including 1."),
    (detector, {"channels": 40}, "channels of the detector is 40; it must be a multiple of 16 and of num_heads, 8."),
    (detr, {"detector": partial(Detector, channels=64, num_heads=4)},
     "channels of the detector is 64 and num_heads 4; with a mask head, their sum must be a multiple of 8."),
    (detr, {"detector": partial(Detector, channels=96)},
     "channels of the detector is 96; the mask head has layers of 48, 24, 12, 6 channels, and each must be a multiple "
     "of 8 or less than it: take a multiple of 128, or 16, 32 or 64."),
    *((partial(RegionProposalNetwork, 32), {name: 0}, f"{name} {ZERO.format('region proposal network')}") for name in (
        "samples_per_image", "pre_nms_train", "pre_nms_test", "post_nms_train", "post_nms_test"
    )),
    (RegionProposalNetwork, {"largest_scale": 0},
     "largest_scale of the region proposal network is 0; it must be above 0."),
    (RegionProposalNetwork, {"anchor_sizes": (8, 8, 0, 8)},
     f"the smallest of anchor_sizes {ZERO.format('region proposal network')}"),
    (RegionProposalNetwork, {"anchor_sizes": (8, 8)}, "anchor_sizes has 2 entries; it has one for each of 4 levels."),
    (RegionProposalNetwork, {"aspect_ratios": (0, 1)},
     "aspect_ratios is (0, 1); it must hold numbers above 0, at least one."),
    *((partial(BoxBranch, 3, 32), {name: 0}, f"{name} {ZERO.format('box branch')}") for name in (
        "hidden", "output_size", "samples_per_image", "max_detections", "sampling_ratio"
    )),
    *((partial(MaskBranch, 3, 32), {name: 0}, f"{name} {ZERO.format('mask branch')}") for name in (
        "channels", "num_convs", "output_size", "sampling_ratio"
    )),
    (partial(MaskRCNNHead, 3, 32), {"box_hidden": 0}, f"hidden {ZERO.format('box branch')}"),
    (partial(SemanticHead, 3, 32), {"channels": 0}, f"channels {ZERO.format('semantic head')}"),
    (partial(SemanticHead, 3, 32), {"dpc_dilations": [(1, 0)] * 5},
     f"the smallest number in dpc_dilations {ZERO.format('semantic head')}"),
    (partial(SemanticHead, 3, 32), {"dpc_dilations": [(1, 1)] * 4},
     "dpc_dilations has 4 entries; it has one for each of 5 convolutions."),
    (partial(TwoWayFPN, (8, 8, 8, 8)), {"out_channels": 0}, f"out_channels {ZERO.format('two-way FPN')}"),
    (partial(TwoWayFPN, (8, 8, 8, 8)), {"out_channels": 40, "norm_act": GroupNormReLU}, groups),
    *((solov2, {name: 0}, f"{name} {ZERO.format('SOLOv2 head')}") for name in (
        "num_convs", "channels", "kernel_channels", "points_nms_window", "nms_pre", "max_detections"
    )),
    (solov2, {"num_grids": (8, 8, 8, 8, (0, 4))}, f"the smallest number in num_grids {ZERO.format('SOLOv2 head')}"),
    (solov2, {"num_grids": (8, 8)}, "SOLOv2Head takes one entry of num_grids for each of its 5 levels; there are 2."),
    (solov2, {"least_areas": (8,)}, "SOLOv2Head takes one entry of least_areas for each of its 5 levels; there are 1."),
    (solov2, {"category_prior": 0}, "category_prior is 0; it must be above 0 and below 1."),
    (solov2, {"mask_thresh": 1}, "mask_thresh is 1; it must be above 0 and below 1."),
    (solov2, {"channels": 40}, groups),
    (solov2, {"kernel_channels": 40}, groups),
    (solov2, {"mask_hidden": 40}, groups),
    (solov2, {"scale_ranges": [(0, 9)] * 4},
     "SOLOv2Head takes one entry of scale_ranges for each of its 5 levels; there are 4."),
    (partial(BoxBranch, 3, 32), {"largest_scale": -1}, "largest_scale of the box branch is -1; it must be above 0."),
    (partial(MaskFeatureBranch, 32, 32), {"hidden": 0}, f"hidden {ZERO.format('mask features')}"),
]  # fmt: skip


@sweep("build, options, sentence", CASES)
def test_a_size_that_cannot_be_built_is_refused_in_one_sentence(build, options, sentence):
    """Oracle: the sentence."""
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        build(**options)
