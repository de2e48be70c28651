"""Parameter groups against hand-worked divisions, and their effect on an optimizer's step."""

import pytest
import torch
from torch import nn
from torch.optim import SGD

from efficientps.training.parameter_groups import linear_scale, parameter_groups, scale_learning_rates


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))


def division(network, **options):
    """Return the names of the parameters of each group."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network.named_parameters(), **options)
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
    groups = parameter_groups(network.named_parameters(), weight_decay_norms=False, backbone_lr_factor=0.1)
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
    with pytest.raises(ValueError, match=r"model\.scale_lr is 0; give the batch size"):
        linear_scale(total_batch=3, reference_batch=0)


def test_nothing_to_train():
    network = Network().requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter; unfreeze"):
        parameter_groups(network.named_parameters())


def test_backbone_factor_without_backbone():
    network = Network()
    with pytest.raises(ValueError, match=r"backbone_lr_factor is 0\.1, but no trainable parameter belongs"):
        parameter_groups(network.head.named_parameters(), backbone_lr_factor=0.1)
