"""Parameter groups against hand-worked divisions, and their effect on an optimizer's step."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from efficientps.backbones import Backbone
from efficientps.networks.network import PanopticNetwork
from efficientps.training.parameter_groups import linear_scale, parameter_groups, scale_learning_rates


class Network(PanopticNetwork):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))

    def loss(self, batch):
        raise NotImplementedError

    def predict(self, batch):
        raise NotImplementedError


def division(network, **options):
    """Return the names of the parameters of each group."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, **options)
    return {group["name"]: [names[id(parameter)] for parameter in group["params"]] for group in groups}


def test_one_group_by_default():
    network = Network()
    assert division(network) == {"network": [name for name, _ in network.named_parameters()]}


def test_norms_and_biases_apart():
    # Oracle: hand-worked; convolution weights alone have more than one dimension.
    groups = division(Network(), weight_decay_norms=False)
    assert groups["network"] == ["backbone.0.weight", "head.0.weight"]
    assert groups["network_norms"] == [
        *("backbone.0.bias", "backbone.1.weight", "backbone.1.bias"),
        *("head.0.bias", "head.1.weight", "head.1.bias"),
    ]


def test_four_groups():
    # Oracle: hand-worked.
    groups = division(Network(), weight_decay_norms=False, backbone_lr_factor=0.1)
    assert groups == {
        "backbone": ["backbone.0.weight"],
        "backbone_norms": ["backbone.0.bias", "backbone.1.weight", "backbone.1.bias"],
        "network": ["head.0.weight"],
        "network_norms": ["head.0.bias", "head.1.weight", "head.1.bias"],
    }


def test_frozen_parameters_are_in_no_group():
    network = Network()
    network.backbone.requires_grad_(False)
    assert division(network) == {"network": ["head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"]}


def test_step_follows_the_groups():
    # Oracle: hand-worked; without gradient, SGD shrinks a parameter by the factor 1 - lr * weight_decay.
    network = Network()
    for parameter in network.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    groups = parameter_groups(network, weight_decay_norms=False, backbone_lr_factor=0.1)
    optimizer = SGD(groups, lr=1.0, weight_decay=0.5)
    scale_learning_rates(optimizer, 0.5)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == pytest.approx(
        {"backbone": 0.05, "backbone_norms": 0.05, "network": 0.5, "network_norms": 0.5}
    )
    optimizer.step()
    values = {name: parameter.mean().item() for name, parameter in network.named_parameters()}
    assert values["backbone.0.weight"] == pytest.approx(1 - 0.05 * 0.5)
    assert values["head.0.weight"] == pytest.approx(1 - 0.5 * 0.5)
    assert all(values[name] == 1 for name in values if name not in ("backbone.0.weight", "head.0.weight"))


def test_linear_scale():
    assert linear_scale(total_batch=3, reference_batch=None) == 1
    assert 0.07 * linear_scale(total_batch=3, reference_batch=16) == pytest.approx(0.013125)
    with pytest.raises(ValueError, match=r"scale_lr is 0; give the batch size"):
        linear_scale(total_batch=3, reference_batch=0)


def test_nothing_to_train():
    network = Network().requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter; unfreeze"):
        parameter_groups(network)


def test_backbone_factor_without_backbone():
    network = Network()
    network.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match=r"backbone_lr_factor is 0\.1 .* no trainable parameter belongs to a backbone"):
        parameter_groups(network, backbone_lr_factor=0.1)


class Layered(Backbone):
    """Two layers, of which the second has a table that takes no decay although it has two dimensions."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))
        self.table = nn.Parameter(torch.zeros(2, 2))

    def forward(self, images, *, checkpoint_blocks=False):
        raise NotImplementedError

    def parameter_depths(self):
        return {name: 0 if name.startswith("layers.0") else 1 for name, _ in self.named_parameters()}

    def undecayed_parameters(self):
        return super().undecayed_parameters() | {"table"}


def test_a_backbone_names_its_depths_and_what_is_not_decayed():
    # Oracle: hand-worked; the attribute's name does not matter, and the rate falls by half from depth to depth.
    network = Network()
    network.backbone, network.encoder = nn.Identity(), Layered()
    options = {"weight_decay_norms": False, "backbone_lr_factor": 0.1, "backbone_layer_decay": 0.5}
    assert division(network, **options) == {
        "network": ["head.0.weight"],
        "network_norms": ["head.0.bias", "head.1.weight", "head.1.bias"],
        "backbone_1": ["encoder.layers.1.weight"],
        "backbone_1_norms": ["encoder.table", "encoder.layers.1.bias"],
        "backbone_2": ["encoder.layers.0.weight"],
        "backbone_2_norms": ["encoder.layers.0.bias"],
    }
    factors = {group["name"]: group["lr_factor"] for group in parameter_groups(network, **options)}
    assert factors["network"] == 1
    assert factors["backbone_1"] == pytest.approx(0.05)
    assert factors["backbone_2"] == pytest.approx(0.025)
