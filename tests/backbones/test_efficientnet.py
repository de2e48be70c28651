"""The backbone against efficientnet_pytorch, and its weight files."""

import efficientnet_pytorch
import pytest
import timm
import torch
from torch import nn

from efficientps.backbones.efficientnet import EfficientNetBackbone
from efficientps.layers.norm_act import InPlaceABN
from tests.sweep import sweep


def loaded(**options) -> EfficientNetBackbone:
    """A backbone with the weights that it describes, in evaluation mode."""
    backbone = EfficientNetBackbone(**options)
    backbone.load_pretrained_weights()
    return backbone.eval()


def reference_network(name: str, image_size: int) -> efficientnet_pytorch.EfficientNet:
    """efficientnet_pytorch without squeeze-excitation, with leaky ReLU, and batch norms of every sign."""
    network = efficientnet_pytorch.EfficientNet.from_name(name, image_size=image_size)
    network._swish = nn.LeakyReLU(0.01)
    for block in network._blocks:
        block.has_se = False
        block._swish = nn.LeakyReLU(0.01)
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            with torch.no_grad():
                layer.weight.uniform_(0.3, 1.2, generator=generator)
                layer.weight.mul_(torch.randint(0, 2, layer.weight.shape, generator=generator) * 2 - 1)
                layer.bias.normal_(0, 0.1, generator=generator)
                layer.running_mean.normal_(0, 0.1, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


@pytest.mark.parametrize(("variant", "image_size"), [("b0", 96), ("b5", 64)])
def test_outputs_equal_efficientnet_pytorch(variant, image_size, tmp_path):
    """Oracle: efficientnet_pytorch with the same weights, squeeze-excitation off and the activation matched."""
    network = reference_network(f"efficientnet-{variant}", image_size)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = loaded(variant=variant, weights=str(tmp_path / "weights.pth"))
    images = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        endpoints = network.extract_endpoints(images)
        pyramid = backbone(images)
    # The head convolution was reduction_5 up to version 0.6 and is reduction_6 from 0.7 on.
    expected = [endpoints[f"reduction_{level}"] for level in (2, 3, 4, 6)]
    for ours, theirs in zip(pyramid, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * max(1, theirs.abs().max())


@pytest.mark.parametrize(
    ("variant", "padding", "name"),
    [
        ("b0", "same", "tf_efficientnet_b0"),
        ("b0", "symmetric", "efficientnet_b0"),
        ("lite1", "same", "tf_efficientnet_lite1"),
        ("lite4", "same", "tf_efficientnet_lite4"),
    ],
)
def test_outputs_equal_timm(variant, padding, name, tmp_path):
    """Oracle: timm's own network in evaluation mode, whose weight file is read, for both paddings and epsilons."""
    network = timm.create_model(name, pretrained=False, se_layer=nn.Identity, act_layer=nn.LeakyReLU).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)  # Nearer to 0 than eps is what cannot be expressed.
            layer.weight.data[::2] *= -1
            nn.init.normal_(layer.running_mean, std=0.1)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "weights.pth")
    backbone = loaded(variant=variant, padding=padding, weights=str(tmp_path / "weights.pth"))
    images = torch.randn(1, 3, 75, 101)
    with torch.no_grad():
        expected = network.forward_features(images)
        torch.testing.assert_close(backbone(images).p32, expected, atol=1e-4, rtol=1e-4)


@sweep(
    "variant, channels",
    [
        ("b0", (24, 40, 112, 1280)),
        ("b4", (32, 56, 160, 1792)),
        ("b5", (40, 64, 176, 2048)),
        ("lite0", (24, 40, 112, 1280)),
        ("lite3", (32, 48, 136, 1280)),
    ],
)
def test_declared_channels_and_strides_are_the_real_ones(variant, channels):
    """Oracle: the channels of DeepSceneSeg/EfficientPS:configs, and the shapes that come out."""
    backbone = EfficientNetBackbone(variant=variant, pretrained=False)
    assert backbone.channels == channels
    with torch.no_grad():
        pyramid = backbone(torch.randn(1, 3, 64, 96))
    for features, width, stride in zip(pyramid, channels, (4, 8, 16, 32), strict=True):
        assert features.shape == (1, width, 64 // stride, 96 // stride)


def test_number_of_parameters_of_b5():
    """Oracle: 23.149 M, the standard 30.390 M of B5 less squeeze-excitation (5.19 M) and classifier (2.05 M)."""
    backbone = EfficientNetBackbone(pretrained=False)
    assert sum(p.numel() for p in backbone.parameters()) == 23_148_912


def test_projections_are_linear_unless_asked_otherwise():
    """Oracle: definition of the linear bottleneck; False is the authors' stage 1."""

    def slopes(backbone: EfficientNetBackbone, suffix: str) -> set[float]:
        return {n.slope for name, n in backbone.named_modules() if isinstance(n, InPlaceABN) and name.endswith(suffix)}

    ours = EfficientNetBackbone(variant="b0", pretrained=False)
    authors = EfficientNetBackbone(variant="b0", pretrained=False, linear_first_stage=False)
    assert slopes(ours, "bn3") == {1.0}
    assert slopes(ours, "blocks.0.0.bn2") == {1.0}
    assert slopes(authors, "blocks.0.0.bn2") == {0.01}
    assert slopes(authors, "bn3") == {1.0}


def test_frozen_stages_and_norms_are_not_trained():
    """Oracle: definition, parameter by parameter."""
    backbone = EfficientNetBackbone(variant="b0", pretrained=False, frozen_stages=2)
    trainable = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert not any(
        name.startswith(("network.conv_stem", "network.bn1", "network.blocks.0", "network.blocks.1"))
        for name in trainable
    )
    assert any(name.startswith("network.blocks.2") for name in trainable)
    everything = EfficientNetBackbone(variant="b0", pretrained=False, frozen_norms=True)
    assert all(n.frozen for n in everything.modules() if isinstance(n, InPlaceABN))
    with pytest.raises(ValueError, match="frozen_stages is 8; EfficientNet has 0 to 7 stages"):
        EfficientNetBackbone(variant="b0", pretrained=False, frozen_stages=8)


def test_stochastic_depth_is_off_by_default():
    """Oracle: definition; in training mode two passes agree without it and differ with it."""
    images = torch.randn(2, 3, 32, 32)
    for rate, same in ((0.0, True), (0.9, False)):
        torch.manual_seed(0)
        backbone = EfficientNetBackbone(variant="b0", pretrained=False, drop_path_rate=rate, frozen_norms=True)
        assert torch.equal(backbone(images).p32, backbone(images).p32) == same


def test_weights_of_another_variant(tmp_path):
    torch.save(timm.create_model("tf_efficientnet_b1", se_layer=nn.Identity).state_dict(), tmp_path / "b1.pth")
    with pytest.raises(ValueError, match=r"b1\.pth has .* the backbone wants .* choose the variant"):
        loaded(variant="b4", weights=str(tmp_path / "b1.pth"))


def test_depths_grow_with_the_blocks():
    # Oracle: hand-worked; B0 has 16 blocks, 1, 2, 2, 3, 3, 4, 1 in its stages.
    backbone = EfficientNetBackbone(variant="b0", pretrained=False)
    depths = backbone.parameter_depths()
    assert depths.keys() == dict(backbone.named_parameters()).keys()
    expected = {"conv_stem.weight": 0, "bn1.bias": 0, "blocks.0.0.conv_dw.weight": 1, "blocks.1.1.bn2.weight": 3}
    expected |= {"blocks.6.0.conv_pw.weight": 16, "conv_head.weight": 17, "bn2.weight": 17}
    assert {name: depths[f"network.{name}"] for name in expected} == expected
