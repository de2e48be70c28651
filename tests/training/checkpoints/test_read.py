"""Reading checkpoints of every kind, and starting from the weights of one."""

import os

import pytest
import torch
from torch import nn

from efficientps.training.checkpoints.read import check_checkpoint, explain_difference, init_from, read_checkpoint


def network(hidden=4, classes=3):
    torch.manual_seed(hidden)
    return nn.Sequential(nn.Linear(2, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, classes))


def save(content, path, *, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_both_formats_of_torch(tmp_path, zipped):
    path = save({"state_dict": network().state_dict(), "epoch": 3}, tmp_path / "a.ckpt", zipped=zipped)
    content = read_checkpoint(path)
    assert content["epoch"] == 3
    torch.testing.assert_close(content["state_dict"], dict(network().state_dict()))


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*none\.ckpt; check the path"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.98])
def test_truncated(tmp_path, kept, zipped):
    path = save({"state_dict": network(hidden=400).state_dict()}, tmp_path / "cut.ckpt", zipped=zipped)
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(ValueError, match=r"cut\.ckpt cannot be read: the file is truncated, damaged, or not a check"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"hello\n", b"<html>" * 100, b"\x89PNG\r\n" + bytes(200), bytes(500)])
def test_no_checkpoint_at_all(tmp_path, content):
    path = tmp_path / "page.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"page\.ckpt cannot be read"):
        read_checkpoint(path)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_does_not_run(tmp_path, zipped):
    path = save({"state_dict": Payload(str(tmp_path / "ran"))}, tmp_path / "evil.ckpt", zipped=zipped)
    with pytest.raises(ValueError, match=r"evil\.ckpt (holds objects that are not tensors|cannot be read)"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # the payload is alive: what refused it was the reader
    assert (tmp_path / "ran").exists()


def test_no_dictionary(tmp_path):
    with pytest.raises(ValueError, match="holds a Tensor, not a checkpoint or a state dict"):
        read_checkpoint(save(torch.zeros(3), tmp_path / "tensor.pt"))


@pytest.mark.parametrize(
    ("keys", "resume", "fine"),
    [
        (["state_dict", "pytorch-lightning_version"], False, True),
        (["state_dict", "pytorch-lightning_version"], True, False),
        (["state_dict", "pytorch-lightning_version", "optimizer_states", "lr_schedulers", "loops"], True, True),
        (["state_dict"], False, False),
        (["0.weight"], False, False),
    ],
)
def test_what_can_be_resumed(tmp_path, keys, resume, fine):
    path = save(dict.fromkeys(keys, 1), tmp_path / "a.ckpt")
    if fine:
        check_checkpoint(path, resume=resume)
    else:
        with pytest.raises(ValueError, match=r"holds weights, but no state of training; start .*--model\.init_from="):
            check_checkpoint(path, resume=resume)


def test_explain_difference():
    # Oracle: hand-worked; classes changes one weight and one bias, and the file lacks and exceeds a key each.
    found = dict(network(classes=5).state_dict())
    found["3.weight"] = found.pop("0.bias")
    sentence = explain_difference(network().state_dict(), found, path="a.ckpt")
    assert sentence == (
        "The checkpoint a.ckpt is of another network than the configured one: it lacks '0.bias', it has '3.weight' "
        "in excess, '2.bias' has the shape [5] instead of [3] (and 1 more); give the --config that it was trained "
        "with, or start from those of its weights that fit with --model.init_from=a.ckpt."
    )
    assert explain_difference(network().state_dict(), network().state_dict(), path="a.ckpt") is None


def test_explain_difference_names_the_part():
    # Oracle: hand-worked; only tensors of the second of three parts differ.
    expected = {f"network.{key}": torch.zeros(1) for key in ("backbone.a", "neck.b", "head.c", "head.d")}
    found = {key: value for key, value in expected.items() if ".head" not in key} | {"network.head.x.y": torch.zeros(1)}
    assert explain_difference(expected, found, path="a.ckpt") == (
        "The checkpoint a.ckpt has another head than the configured network, while backbone and neck fit: it lacks "
        "'network.head.c' and 1 more, it has 'network.head.x.y' in excess; give the --config that it was trained with, "
        "or start from those of its weights that fit with --model.init_from=a.ckpt."
    )


def test_explain_difference_of_a_value_that_is_no_tensor():
    sentence = explain_difference({"a": torch.zeros(2)}, {"a": "text"}, path="a.ckpt")
    assert "'a' has the shape None instead of [2]" in sentence


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
    with pytest.raises(ValueError, match=r"model\.init_from: none of the 1 tensors in .*resnet\.pth fits the network"):
        init_from(network(), path)
