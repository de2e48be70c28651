"""The contract of backbones: what is refused, and what a subclass that says nothing gets."""

import pytest
import torch
from torch import nn

from efficientps.backbones import Backbone, EfficientNetBackbone, ResNetBackbone, TimmBackbone
from efficientps.backbones.backbone import build_backbone
from efficientps.layers import freeze_norms
from efficientps.networks.detr import DETRPanoptic
from efficientps.networks.efficientps import EfficientPS, SOLOv2Head
from efficientps.structures import FeaturePyramid
from tests.sweep import sweep


class Pooled(Backbone):
    """Four levels of pooled, normed colours."""

    channels = (4, 4, 4, 4)

    def __init__(self, first_stride: int = 4):
        super().__init__()
        self.conv, self.norm, self.first_stride = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), first_stride

    def forward(self, images, *, checkpoint_blocks=False):
        x = self.norm(self.conv(images))
        return FeaturePyramid(*(nn.functional.avg_pool2d(x, self.first_stride * 2**level) for level in range(4)))


def test_a_subclass_that_says_nothing_has_defaults():
    # Oracle: the class documentation.
    backbone = build_backbone(Pooled)
    assert backbone.strides == (4, 8, 16, 32) and backbone.pretrained_weights is None
    assert set(backbone.parameter_depths().values()) == {0}
    assert backbone.undecayed_parameters() == {"conv.bias", "norm.weight", "norm.bias"}
    assert backbone.load_pretrained_weights() is None


def test_trying_a_backbone_changes_nothing():
    # Oracle: a backbone that was not tried: weights, statistics, modes and random numbers.
    torch.manual_seed(0)
    untried = EfficientNetBackbone(variant="b0", pretrained=False, drop_path_rate=0.2)
    untried.network.blocks[0].eval()
    expected = torch.rand(3)
    torch.manual_seed(0)
    tried = EfficientNetBackbone(variant="b0", pretrained=False, drop_path_rate=0.2)
    tried.network.blocks[0].eval()
    build_backbone(tried)
    assert torch.equal(torch.rand(3), expected)
    for ours, theirs in zip(tried.modules(), untried.modules(), strict=True):
        assert ours.training == theirs.training
    for key, value in untried.state_dict().items():
        assert torch.equal(tried.state_dict()[key], value)


@sweep(
    "changes, sentence",
    [
        ({"strides": (8, 16, 32, 64)}, r"Pooled has levels of strides \(8, 16, 32, 64\); this network takes \(4, 8, 1"),
        (
            {"channels": (4, 4, 4, 8)},
            r"Pooled declares channels \(4, 4, 4, 8\) at strides .* have the shapes \[\(4, 16",
        ),
        ({"channels": (4, 4)}, r"Pooled must declare the channels of four levels; it declares \(4, 4\)"),
        ({"first_stride": 2}, r"declares channels .* at strides \(4, 8, 16, 32\), but its levels .* \[\(4, 32, 32\)"),
        ({"norm": nn.BatchNorm2d(5)}, r"Pooled fails on an image of 64x64 pixels: "),
        ({"forward": lambda images: [images]}, r"Pooled returns a list; it must return a FeaturePyramid"),
    ],
)
def test_wrong_declarations_are_refused_when_the_network_is_built(changes, sentence):
    backbone = Pooled()
    for name, value in changes.items():
        setattr(backbone, name, value)
    with pytest.raises(ValueError, match=sentence):
        EfficientPS(11, 8, backbone=backbone, instance_head=SOLOv2Head)


def test_what_is_no_backbone_is_refused():
    with pytest.raises(TypeError, match=r"Identity is no backbone; derive it from efficientps\.backbones\.Backbone"):
        build_backbone(nn.Identity)


def test_a_dilated_resnet_is_for_detr_alone():
    # Oracle: declared strides; EfficientPS adds levels of twice the size.
    def backbone():
        return ResNetBackbone(variant="resnet10t", pretrained=False, dilation=True)

    assert DETRPanoptic(11, 8, backbone=backbone).backbone.strides == (4, 8, 16, 16)
    with pytest.raises(ValueError, match=r"ResNetBackbone has levels of strides \(4, 8, 16, 16\); this network takes"):
        EfficientPS(11, 8, backbone=backbone, instance_head=SOLOv2Head)


def test_the_network_normalises_as_its_backbone_wants():
    # Oracle: the backbone's declarations; what the network is given goes before them.
    backbone = Pooled()
    backbone.image_mean, backbone.image_std = (10.0, 20.0, 30.0), (1.0, 2.0, 3.0)
    network = EfficientPS(11, 8, backbone=backbone, instance_head=SOLOv2Head)
    assert network.normalization.mean == (10, 20, 30) and network.normalization.std == (1, 2, 3)
    network = EfficientPS(11, 8, backbone=backbone, instance_head=SOLOv2Head, image_mean=(1.0, 1.0, 1.0))
    assert network.normalization.mean == (1, 1, 1)


@sweep(
    "build",
    [
        lambda: EfficientNetBackbone(variant="b0", pretrained=False),
        lambda: ResNetBackbone(variant="resnet10t", pretrained=False, frozen_norms=False),
        lambda: TimmBackbone(name="test_resnet", pretrained=False),
    ],
)
def test_checkpointing_blocks_changes_neither_gradients_nor_statistics(build):
    # Oracle: the same backbone without it.
    torch.manual_seed(0)
    backbone = build().train()
    other = build().train()
    other.load_state_dict(backbone.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for module, checkpoint_blocks in ((backbone, False), (other, True)):
        sum(level.square().mean() for level in module(images, checkpoint_blocks=checkpoint_blocks)).backward()
    for ours, theirs in zip(other.parameters(), backbone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0)


def test_frozen_batch_norms_of_any_backbone():
    # Oracle: the formula of a norm with fixed statistics, in training mode.
    backbone = Pooled()
    nn.init.normal_(backbone.norm.running_mean)
    freeze_norms(backbone)
    x = torch.randn(2, 4, 8, 8)
    mean = backbone.norm.running_mean.clone()
    expected = (x - mean.view(1, 4, 1, 1)) / (1 + backbone.norm.eps) ** 0.5
    torch.testing.assert_close(backbone.train().norm(x), expected)
    assert torch.equal(backbone.norm.running_mean, mean)
    assert not any(parameter.requires_grad for parameter in backbone.norm.parameters())
