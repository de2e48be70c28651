"""Bytes that a forward pass leaves behind."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.saved_activations import saved_activation_bytes
from efficientps.layers.activation_checkpointing import checkpointed
from efficientps.layers.norm_act import InPlaceABN, set_norm_implementation


def by_hooks(loss):
    """Count the storages that autograd keeps, parameters among them, by its saved-tensor hooks."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss()
    return kept


@pytest.mark.parametrize("implementation", ["in_place", "eager"])
def test_agrees_with_saved_tensor_hooks(implementation):
    """Oracle: the hooks, without the parameters and the input, and with the result itself."""
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), InPlaceABN(8), nn.Conv2d(8, 4, 3, bias=False), InPlaceABN(4))
    set_norm_implementation(layers, implementation)
    images = torch.randn(2, 3, 9, 9)
    own = {t.untyped_storage().data_ptr() for t in (images, *layers.state_dict().values())}
    kept = by_hooks(lambda: layers(images).square().sum())
    expected = sum(size for pointer, size in kept.items() if pointer not in own) + 4
    assert abs(saved_activation_bytes(lambda: layers(images).square().sum())[0] - expected) <= 4 * 8  # |weight| + eps


def test_what_was_there_before_is_not_counted():
    """Oracle: counted by hand; the change in place and the view are of ``before``, and the result has 4 bytes."""
    before, weight = torch.zeros(100), torch.ones(10, requires_grad=True)

    def loss():
        before.add_(1)
        return (weight * before.view(10, 10)[0]).sum()

    assert saved_activation_bytes(loss)[0] == 4


def test_a_checkpointed_part_leaves_its_input_alone():
    """Oracle: counted by hand; [2, 8, 9, 9] float32 is the input, and the result is summed without being kept."""
    layers = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(5)))
    images = torch.randn(2, 8, 9, 9)
    size = images.nbytes
    plain, _ = saved_activation_bytes(lambda: layers(images * 2).sum())
    less, _ = saved_activation_bytes(lambda: checkpointed(layers, images * 2).sum())
    assert plain >= 5 * size
    assert size <= less < 1.1 * size + F.relu(torch.zeros(1)).nbytes + 6000  # and the random state
