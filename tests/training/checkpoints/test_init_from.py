"""Starting a network from the weights of a file."""

import pytest
import torch
from torch import nn

from efficientps.training.checkpoints.init_from import init_from
from tests.training.checkpoints.test_states import network


def save(content, path):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", ["checkpoint", "state dict"])
def test_init_from_copies_what_fits(tmp_path, layout):
    # Oracle: the source network's own values where shapes agree, the target's where they do not.
    source, target = network(classes=5), network(classes=3)
    nn.init.constant_(source[0].weight, 7.0)
    source[1].running_mean.fill_(2.0)
    kept = target[2].weight.clone()
    content = source.state_dict()
    if layout == "checkpoint":
        content = {"state_dict": {f"network.{key}": value for key, value in content.items()}, "epoch": 1}
    line = init_from(target, save(content, tmp_path / "source.pt"))
    assert line == (
        f"Started from {tmp_path / 'source.pt'}: 7 of 9 tensors loaded (0 2 of 2, 1 5 of 5, 2 0 of 2); "
        "2 of another shape, which begin anew ('2.bias' and 1 more)."
    )
    assert (target[0].weight == 7).all()
    assert (target[1].running_mean == 2).all()
    assert torch.equal(target[2].weight, kept)


def test_init_from_counts_what_is_missing_and_what_is_left(tmp_path):
    content = network().state_dict()
    content["9.weight"] = content.pop("0.bias")
    line = init_from(network(), save(content, tmp_path / "s.pt"))
    assert line.endswith("2 2 of 2); 1 not in the file ('0.bias'); 1 of the file unused ('9.weight').")


def test_init_from_a_stranger(tmp_path):
    path = save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"None of the 1 tensors in .*resnet\.pth fits the network"):
        init_from(network(), path)
