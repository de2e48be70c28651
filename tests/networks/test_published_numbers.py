"""Every published number can be set by a dotted key of the configuration, and arrives in the network."""

import math
from functools import partial

import pytest
import torch

from efficientps.cli.panoptic_cli import PanopticCLI
from efficientps.networks.detr.losses import LossWeights, box_losses, mask_losses
from efficientps.networks.detr.matcher import MatchCosts, match
from efficientps.networks.efficientps import MaskRCNNHead, SemanticHead, SOLOv2Head
from efficientps.networks.efficientps.mask_rcnn.box_branch import BoxBranch
from efficientps.networks.efficientps.mask_rcnn.mask_branch import MaskBranch
from efficientps.networks.efficientps.mask_rcnn.region_proposals import RegionProposalNetwork
from efficientps.networks.queries.targets import SegmentTargets
from tests.command_line import refuse, run
from tests.instance_head_contract import CHANNELS, random_pyramid, random_targets
from tests.sweep import sweep

MASK_RCNN = {
    # Ren et al., "Faster R-CNN", Sec. 3.1 and 3.3; DeepSceneSeg/EfficientPS:configs.
    "rpn.anchor_sizes": ("[8, 16, 32, 64]", "rpn.anchors.generator.sizes", ((8,), (16,), (32,), (64,))),
    "rpn.aspect_ratios": ("[0.4, 2.5]", "rpn.anchors.generator.aspect_ratios", ((0.4, 2.5),) * 4),
    "rpn.positive_iou": (0.6, "rpn.positive_iou", 0.6),
    "rpn.negative_iou": (0.2, "rpn.negative_iou", 0.2),
    "rpn.samples_per_image": (99, "rpn.sampler.batch_size_per_image", 99),
    "rpn.positive_fraction": (0.4, "rpn.sampler.positive_fraction", 0.4),
    "rpn.box_loss_beta": (0.2, "rpn.box_loss_beta", 0.2),
    "rpn.pre_nms_train": (901, "rpn.pre_nms_train", 901),
    "rpn.pre_nms_test": (902, "rpn.pre_nms_test", 902),
    "rpn.post_nms_train": (903, "rpn.post_nms_train", 903),
    "rpn.post_nms_test": (904, "rpn.post_nms_test", 904),
    "rpn.nms_thresh": (0.8, "rpn.nms_thresh", 0.8),
    "rpn.smallest_side": (2, "rpn.smallest_side", 2),
    "rpn.largest_scale": (50, "rpn.largest_scale", 50),
    "rpn.objectness_weight": (1.1, "rpn.objectness_weight", 1.1),
    "rpn.box_weight": (1.2, "rpn.box_weight", 1.2),
    # Girshick, "Fast R-CNN", Sec. 2.3; rbgirshick/py-faster-rcnn; Lin et al., "Feature Pyramid Networks", Eq. 1.
    "box_branch.hidden": (24, "box_branch.fc.1.out_features", 24),
    "box_branch.output_size": (5, "box_branch.output_size", 5),
    "box_branch.sampling_ratio": (3, "box_branch.sampling_ratio", 3),
    "box_branch.aligned": ("false", "box_branch.aligned", False),
    "box_branch.finest_scale": (28, "box_branch.finest_scale", 28),
    "box_branch.samples_per_image": (98, "box_branch.sampler.batch_size_per_image", 98),
    "box_branch.positive_fraction": (0.3, "box_branch.sampler.positive_fraction", 0.3),
    "box_branch.positive_iou": (0.55, "box_branch.positive_iou", 0.55),
    "box_branch.box_loss_beta": (0.5, "box_branch.box_loss_beta", 0.5),
    "box_branch.delta_weights": ("[9, 4]", "box_branch.size_weight", 4),
    "box_branch.detection_thresh": (0.06, "box_branch.detection_thresh", 0.06),
    "box_branch.nms_thresh": (0.3, "box_branch.nms_thresh", 0.3),
    "box_branch.max_detections": (77, "box_branch.max_detections", 77),
    "box_branch.smallest_side": (3, "box_branch.smallest_side", 3),
    "box_branch.largest_scale": (60, "box_branch.largest_scale", 60),
    "box_branch.class_weight": (1.3, "box_branch.class_weight", 1.3),
    "box_branch.box_weight": (1.4, "box_branch.box_weight", 1.4),
    # He et al., "Mask R-CNN", Sec. 3.1.
    "mask_branch.channels": (16, "mask_branch.deconv.out_channels", 16),
    "mask_branch.num_convs": (2, "mask_branch.convs.1.1.out_channels", 16),
    "mask_branch.output_size": (10, "mask_branch.output_size", 10),
    "mask_branch.sampling_ratio": (4, "mask_branch.sampling_ratio", 4),
    "mask_branch.aligned": ("false", "mask_branch.aligned", False),
    "mask_branch.finest_scale": (27, "mask_branch.finest_scale", 27),
    "mask_branch.mask_weight": (1.5, "mask_branch.mask_weight", 1.5),
    # DeepSceneSeg/EfficientPS:configs and efficientPS.py.
    "score_thresh": (0.4, "score_thresh", 0.4),
    "mask_logit_scale": (4, "mask_logit_scale", 4),
}
"""Key below ``instance_head`` -> value in YAML, place in the built head, value there."""

SOLOV2 = {
    # Wang et al., "SOLOv2", Sec. 3; WXinlong/SOLO:configs/solov2 and mmdet/models/anchor_heads/solov2_head.py.
    "num_convs": (1, "category_tower.0.0.out_channels", 32),
    "channels": (32, "category.in_channels", 32),
    "kernel_channels": (64, "kernel.out_channels", 64),
    "mask_features.hidden": (96, "mask_features.p4.0.0.out_channels", 96),
    "num_grids": ("[30, 20, 12, 8, 6]", "grids", [(30, 30), (20, 20), (12, 12), (8, 8), (6, 6)]),
    "scale_ranges": (
        "[[0, 9], [8, 19], [18, 29], [28, 39], [38, 999]]",
        "scale_ranges.4",
        (38, 999),
    ),
    "sigma": (0.3, "sigma", 0.3),
    "category_weight": (2, "category_weight", 2),
    "mask_weight": (4, "mask_weight", 4),
    "focal_alpha": (0.3, "focal_alpha", 0.3),
    "focal_gamma": (1.5, "focal_gamma", 1.5),
    "dice_smoothing": (0.5, "dice_smoothing", 0.5),
    "category_prior": (0.5, "category.bias.0", 0.0),
    "points_nms_window": (3, "points_nms_window", 3),
    "detection_thresh": (0.2, "detection_thresh", 0.2),
    "mask_thresh": (0.6, "mask_thresh", 0.6),
    "least_areas": ("[1, 2, 3, 4, 5]", "least_areas", (1, 2, 3, 4, 5)),
    "nms_pre": (400, "nms_pre", 400),
    "nms_kernel": ("linear", "nms_kernel", "linear"),
    "nms_sigma": (1.5, "nms_sigma", 1.5),
    "update_thresh": (0.06, "update_thresh", 0.06),
    "max_detections": (55, "max_detections", 55),
}

EFFICIENTPS = {
    # EfficientPS, Sec. 3.2 to 3.5 and Fig. 2.
    "neck.out_channels": (32, "neck.out_channels", 32),
    "semantic_head.channels": (16, "semantic_head.dpc32.project.0.out_channels", 16),
    "semantic_head.dpc_dilations": (
        "[[1, 2], [1, 1], [3, 4], [5, 6], [7, 8]]",
        "semantic_head.dpc16.after_far.0.dilation",
        (7, 8),
    ),
    "semantic_head.hard_pixel_fraction": (0.5, "semantic_head.hard_pixel_fraction", 0.5),
    "semantic_head.hard_pixel_scope": ("batch", "semantic_head.hard_pixel_scope", "batch"),
    "semantic_head.semantic_weight": (1.6, "semantic_head.semantic_weight", 1.6),
    "overlap_thresh": (0.6, "overlap_thresh", 0.6),
    "min_stuff_area": (1024, "min_stuff_area", 1024),
}

PARTS = {"rpn": RegionProposalNetwork, "box_branch": BoxBranch, "mask_branch": MaskBranch}

MASK_RCNN_WEIGHTS = {
    "loss_objectness": ("rpn", "objectness_weight"),
    "loss_rpn_box_reg": ("rpn", "box_weight"),
    "loss_classifier": ("box_branch", "class_weight"),
    "loss_box_reg": ("box_branch", "box_weight"),
    "loss_mask": ("mask_branch", "mask_weight"),
}
"""Loss term -> part of the head, option of the part."""

SOLOV2_WEIGHTS = {"loss_category": ("", "category_weight"), "loss_mask": ("", "mask_weight")}

SEMANTIC = {"loss_semantic": ("", "semantic_weight")}

DETR = {
    # Carion et al., "DETR", Sec. 3 and A.4; facebookresearch/detr:main.py and models/segmentation.py.
    "detector.num_queries": (31, "detector.num_queries", 31),
    "detector.channels": (64, "detector.channels", 64),
    "detector.num_heads": (16, "detector.num_heads", 16),
    "detector.feed_forward": (48, "detector.encoder.layers.0.mlp.fc1.out_features", 48),
    "detector.encoder_layers": (1, "detector.encoder.config.encoder_layers", 1),
    "detector.decoder_layers": (2, "detector.decoder.config.decoder_layers", 2),
    "detector.dropout": (0.2, "detector.encoder.layers.0.dropout", 0.2),
    "detector.box_layers": (2, "detector.box_head.num_layers", 2),
    "detector.position_temperature": (20, "detector.position_embedding.temperature", 20),
    "match_costs.classes": (1.5, "match_costs.classes", 1.5),
    "match_costs.box": (4, "match_costs.box", 4),
    "match_costs.giou": (3, "match_costs.giou", 3),
    "loss_weights.classes": (1.5, "loss_weights.classes", 1.5),
    "loss_weights.box": (4, "loss_weights.box", 4),
    "loss_weights.giou": (3, "loss_weights.giou", 3),
    "loss_weights.mask": (1.2, "loss_weights.mask", 1.2),
    "loss_weights.dice": (1.3, "loss_weights.dice", 1.3),
    "loss_weights.focal_alpha": (0.3, "loss_weights.focal_alpha", 0.3),
    "loss_weights.focal_gamma": (1.5, "loss_weights.focal_gamma", 1.5),
    "loss_weights.dice_smoothing": (0.5, "loss_weights.dice_smoothing", 0.5),
    "no_object_weight": (0.2, "no_object_weight", 0.2),
    "score_thresh": (0.8, "score_thresh", 0.8),
    "max_dropped_area": (5, "max_dropped_area", 5),
}

FAMILIES = {
    "Mask R-CNN": ("coco_panoptic", "b0", EFFICIENTPS, MASK_RCNN),
    "SOLOv2": ("cityscapes_solov2_512x1024", "b0", EFFICIENTPS, SOLOV2),
    "DETR": ("detr_panoptic_joint", "resnet10t", DETR, {}),
}


def reach(built, place):
    """Follow attributes and indices from a module."""
    for name in place.split("."):
        built = built[int(name)] if name.isdigit() else getattr(built, name)
    return built


@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_number_is_an_option(family, synthetic_root, yard_root, monkeypatch):
    """Oracle: the number that was set, read from the part that computes with it; all of a family in one command."""
    config, variant, of_network, of_head = FAMILIES[family]
    numbers = of_network | {
        f"instance_head.{key}": (v, f"instance_head.{at}", e) for key, (v, at, e) in of_head.items()
    }
    networks = []
    monkeypatch.setattr(PanopticCLI, "validate", lambda self, model, **_: networks.append(model.network))
    words = [word for key, (value, _, _) in numbers.items() for word in (f"--model.network.{key}", str(value))]
    run(
        *("validate", "--config", f"configs/{config}.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--data.root", yard_root if config == "coco_panoptic" else synthetic_root, "--trainer.precision", "32-true"),
        *("--model.network.backbone.variant", variant, "--model.network.backbone.pretrained", "false", "--debug"),
        *("--trainer.fast_dev_run", "1", "--model.init_from", "null"),
        *words,
    )
    (network,) = networks
    wrong = {
        key: arrived for key, (_, place, expected) in numbers.items() if (arrived := reach(network, place)) != expected
    }
    assert not wrong


def test_a_number_that_is_given_twice_is_refused(synthetic_root, capfd):
    """Oracle: the sentence. configs/demo.yaml gives the short form, ``box_hidden: 256``."""
    sentence = refuse(
        capfd,
        *("validate", "--config", "configs/demo.yaml", "--data.root", synthetic_root, "--trainer.accelerator", "cpu"),
        *("--model.network.instance_head.box_branch.hidden", "300"),
    )
    assert "box_hidden is 256 and box_branch.hidden is 300, which are the same option" in sentence


def test_weights_of_detr_weigh_the_terms():
    """Oracle: worked by hand, of one query and one segment."""
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    target = SegmentTargets(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.4, 0.2]]), torch.ones(1, 4, 4).bool())
    (matches,) = match(torch.zeros(1, 1, 1, 2), boxes[None], [target], MatchCosts(classes=0, box=1, giou=0))
    l1, giou = box_losses(boxes, matches, [target], LossWeights(box=3, giou=4))
    assert l1.item() == pytest.approx(3 * 0.2) and giou.item() == pytest.approx(4 * 0.5, rel=1e-5)
    focal, dice = mask_losses(torch.zeros(1, 4, 4), target.masks, LossWeights(mask=2, dice=5, focal_gamma=0))
    assert focal.item() == pytest.approx(2 * 0.25 * math.log(2))
    assert dice.item() == pytest.approx(5 * (1 - 17 / 25))
    _, dice = mask_losses(torch.zeros(1, 4, 4), target.masks, LossWeights(dice_smoothing=8))
    assert dice.item() == pytest.approx(1 - 24 / 32)


@sweep("head, weights", [(MaskRCNNHead, MASK_RCNN_WEIGHTS), (SOLOv2Head, SOLOV2_WEIGHTS), (SemanticHead, SEMANTIC)])
def test_weights_of_efficientps_weigh_the_terms(head, weights):
    """Oracle: each term is its weight times the term of weight 1, in the same draw of samples."""

    def terms(weight_of):
        torch.manual_seed(0)
        parts = {}
        for term, (part, name) in weights.items():
            parts.setdefault(part, {})[name] = weight_of[term]
        options = parts.pop("", {}) | {part: partial(PARTS[part], **given) for part, given in parts.items()}
        built = head(3, CHANNELS, **options)
        if head is SemanticHead:
            return built.loss(random_pyramid(2), torch.randint(0, 3, (2, 64, 128)))
        return built.loss(random_pyramid(2), random_targets([2, 1]))

    unit = terms(dict.fromkeys(weights, 1.0))
    twice = {term: 2.0 ** (place + 1) for place, term in enumerate(weights)}
    assert terms(twice) == {term: twice[term] * loss for term, loss in unit.items()}
    assert all(unit.values())
