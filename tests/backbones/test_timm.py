"""Networks of timm by their names."""

import pytest
import timm
import torch

from efficientps.backbones import TimmBackbone
from efficientps.backbones.backbone import build_backbone
from tests.sweep import sweep


@sweep("name", ["test_convnext", "test_resnet", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_names_with_four_levels_are_backbones(name):
    # Oracle: the shapes that come out, which building compares with the declared ones.
    backbone = build_backbone(TimmBackbone(name=name, pretrained=False))
    depths = backbone.parameter_depths()
    assert depths.keys() == dict(backbone.named_parameters()).keys()
    assert set(depths.values()) == {0, 1, 2, 3, 4}


def test_weights_of_timm_compute_the_same(tmp_path):
    # Oracle: timm's whole network, whose weight file is read.
    network = timm.create_model("test_convnext").eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = TimmBackbone(name="test_convnext", weights=str(tmp_path / "weights.pth"))
    backbone.load_pretrained_weights()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(images).p32, network.forward_features(images))


def test_mean_and_deviation_are_those_of_the_weights():
    # Oracle: timm's table; these weights were trained on images between -1 and 1.
    backbone = TimmBackbone(name="mobilenetv3_large_100.miil_in21k", pretrained=False)
    assert backbone.image_mean == (0, 0, 0) and backbone.image_std == (255, 255, 255)


def test_tables_of_positions_take_no_weight_decay():
    # Oracle: timm's own list.
    name = "swin_tiny_patch4_window7_224"
    listed = timm.create_model(name).no_weight_decay()
    ours = TimmBackbone(name=name, pretrained=False).undecayed_parameters()
    assert listed
    assert {key.removeprefix("network.").replace("layers_", "layers.") for key in ours} >= listed


def test_other_strides_and_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match=r"'vit_tiny_patch16_224' has features at the strides \(16, 16, 16, 16\); a ba"
    ):
        TimmBackbone(name="vit_tiny_patch16_224", pretrained=False)
    with pytest.raises(ValueError, match=r"timm cannot build 'convnext_huuge' with four levels of features"):
        TimmBackbone(name="convnext_huuge", pretrained=False)
    with pytest.raises(ValueError, match=r"timm cannot build 'convnext_tiny\.nix' .*Invalid pretrained tag"):
        TimmBackbone(name="convnext_tiny.nix", pretrained=False)
