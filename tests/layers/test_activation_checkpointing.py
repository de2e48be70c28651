"""Parts that are computed twice give what they give when they are computed once."""

import pytest
import torch
from torch import nn

from efficientps.layers.activation_checkpointing import checkpointed
from efficientps.layers.norm_act import InPlaceABN, keep_statistics, set_norm_implementation


def network(implementation):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), InPlaceABN(8), nn.Dropout(0.5), nn.Conv2d(8, 4, 3), InPlaceABN(4))
    set_norm_implementation(layers, implementation)
    return layers.train()


@pytest.mark.parametrize("implementation", ["in_place", "eager"])
def test_gradients_statistics_and_random_numbers_are_those_of_a_plain_call(implementation):
    """Oracle: the plain call, in two steps one after the other."""
    results = []
    for call in (lambda f, x: f(x), checkpointed):
        layers = network(implementation)
        generator = torch.Generator().manual_seed(1)
        torch.manual_seed(2)
        for _ in range(2):
            images = torch.randn(2, 3, 9, 9, generator=generator)
            call(layers, images).square().sum().backward()
        results.append([*layers.state_dict().values(), *(p.grad for p in layers.parameters()), torch.rand(3)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_plain_call_without_gradients(monkeypatch):
    monkeypatch.setattr("efficientps.layers.activation_checkpointing.checkpoint", None)
    with torch.no_grad():
        assert torch.equal(checkpointed(torch.add, torch.ones(2), other=torch.ones(2)), torch.full((2,), 2.0))


def test_statistics_are_kept_until_the_end_of_the_innermost_block():
    layer = InPlaceABN(4).train()
    with keep_statistics():
        with keep_statistics():
            layer(torch.randn(2, 4, 3, 3))
        layer(torch.randn(2, 4, 3, 3))
    assert torch.equal(layer.running_mean, torch.zeros(4))
    layer(torch.randn(2, 4, 3, 3))
    assert not torch.equal(layer.running_mean, torch.zeros(4))
