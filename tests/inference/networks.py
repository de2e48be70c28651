"""Small networks whose norms do something, and predictions to compare."""

from functools import partial

import torch
from torch import nn

from efficientps.backbones import EfficientNetBackbone
from efficientps.layers import InPlaceABN
from efficientps.networks.efficientps import EfficientPS, MaskRCNNHead, SemanticHead, SOLOv2Head, TwoWayFPN
from efficientps.structures import Prediction
from tests.networks.efficientps.test_network import NUM_STUFF, NUM_THINGS, SOLO

HEADS = {
    "mask_rcnn": partial(MaskRCNNHead, box_hidden=32, mask_channels=16, deconv_norm=True, fc_norm=True),
    "solov2": partial(SOLOv2Head, **SOLO, norm_act=InPlaceABN),
}
OTHERS = {"solov2 with group norms": partial(SOLOv2Head, **SOLO)}


def network(head: str, *, variant: str = "b0", **options) -> EfficientPS:
    """A small network with one of both heads, its weights drawn from a seed."""
    torch.manual_seed(0)
    return EfficientPS(
        NUM_STUFF, NUM_THINGS, backbone=EfficientNetBackbone(variant=variant, pretrained=False),
        neck=partial(TwoWayFPN, out_channels=32), semantic_head=partial(SemanticHead, channels=16),
        instance_head=(HEADS | OTHERS)[head], min_stuff_area=20, **options,
    )  # fmt: skip


def ready_network(head: str, **options) -> EfficientPS:
    """A network in evaluation whose norms have weights of both signs and the statistics of noise, more or less.

    Its instance head finds something.
    """
    built = network(head, **options)
    generator = torch.Generator().manual_seed(0)
    norms = [layer for layer in built.modules() if isinstance(layer, InPlaceABN)]
    for layer in norms:
        layer.momentum = 1.0
        layer.weight.data.uniform_(0.5, 1.5, generator=generator)
        layer.weight.data *= torch.randint(2, layer.weight.shape, generator=generator) * 2 - 1
        layer.bias.data.normal_(std=0.3, generator=generator)
    built.train()
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    with torch.no_grad():  # statistics of what really flows, so that no signal dies or explodes over hundred layers
        pyramid = built.pyramid(images, [(64, 96)] * 2)
        built.semantic_head(pyramid)
        built.eval()
        built.instance_head.train()
        built.instance_head.predict(pyramid, [(64, 96)] * 2)
    built.eval()
    for layer in norms:
        layer.momentum = 0.1
        layer.running_mean += (
            0.2 * layer.running_var.sqrt() * torch.randn(layer.running_mean.shape, generator=generator)
        )
        layer.running_var *= torch.empty_like(layer.running_var).uniform_(0.5, 2, generator=generator)
    _find_something(built)
    return built


def _find_something(built: nn.Module) -> None:
    head = built.instance_head
    if isinstance(head, MaskRCNNHead):
        head.box_branch.predictor.cls_score.bias.data[1:] += 2.0
        head.mask_branch.predictor.bias.data += 1.0
    else:
        head.category.bias.data += 5.0
        head.kernel.weight.data *= 100


def equal(a: Prediction, b: Prediction) -> bool:
    """Whether two predictions are the same, bit by bit."""
    tensors = [
        (p.panoptic.segment_ids, p.semantic, p.instances.scores, p.instances.labels, p.instances.boxes,
         p.instances.mask_logits, p.instances.mask_frames) for p in (a, b)
    ]  # fmt: skip
    return a.panoptic.segments == b.panoptic.segments and all(map(torch.equal, *tensors))
