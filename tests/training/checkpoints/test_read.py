"""Reading checkpoints of every kind."""

import os

import pytest
import torch
from torch import nn

from efficientps.training.checkpoints.read import NoTrainingStateError, check_checkpoint, read_checkpoint
from tests.sweep import sweep


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


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*none\.ckpt; check the path"):
        read_checkpoint(tmp_path / "none.ckpt")


@sweep("zipped", [True, False])
@sweep("kept", [0.0, 0.1, 0.5, 0.98])
def test_truncated(tmp_path, kept, zipped):
    path = save({"state_dict": network(hidden=400).state_dict()}, tmp_path / "cut.ckpt", zipped=zipped)
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(ValueError, match=r"cut\.ckpt cannot be read: the file is truncated, damaged, or not a check"):
        read_checkpoint(path)


@sweep("content", [b"hello\n", b"<html>" * 100, b"\x89PNG\r\n" + bytes(200), bytes(500)])
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


@sweep(
    "keys, resume, fine",
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
        with pytest.raises(NoTrainingStateError, match=r"a\.ckpt holds weights, but no state of training\."):
            check_checkpoint(path, resume=resume)
