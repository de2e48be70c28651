"""Comparing the tensors of a checkpoint with those of a network."""

import pytest
import torch
from torch import nn

from efficientps.training.checkpoints.states import StateMismatchError, check_state


def network(hidden=4, classes=3):
    torch.manual_seed(hidden)
    return nn.Sequential(nn.Linear(2, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, classes))


def refusal(expected, found):
    with pytest.raises(StateMismatchError) as caught:
        check_state(expected, found, path="a.ckpt")
    assert caught.value.path == "a.ckpt"
    return str(caught.value)


def test_first_differences_are_named():
    # Oracle: hand-worked; classes changes one weight and one bias, and the file lacks and exceeds a key each.
    found = dict(network(classes=5).state_dict())
    found["3.weight"] = found.pop("0.bias")
    sentence = refusal(network().state_dict(), found)
    assert sentence == (
        "The checkpoint a.ckpt is of another network than this one: it lacks '0.bias', it has '3.weight' in excess, "
        "'2.bias' has the shape [5] instead of [3] (and 1 more)."
    )
    check_state(network().state_dict(), network().state_dict(), path="a.ckpt")


def test_parts_are_named():
    # Oracle: hand-worked; only tensors of the second of three parts differ.
    expected = {f"network.{key}": torch.zeros(1) for key in ("backbone.a", "neck.b", "head.c", "head.d")}
    found = {key: value for key, value in expected.items() if ".head" not in key} | {"network.head.x.y": torch.zeros(1)}
    assert refusal(expected, found) == (
        "The checkpoint a.ckpt has another head than this network, while backbone and neck fit: it lacks "
        "'network.head.c' and 1 more, it has 'network.head.x.y' in excess."
    )


def test_a_value_that_is_no_tensor():
    assert "'a' has the shape None instead of [2]" in refusal({"a": torch.zeros(2)}, {"a": "text"})
