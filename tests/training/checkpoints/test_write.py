"""Files are whole, whatever the disk does."""

import shutil

import pytest
import torch

from efficientps.training.checkpoints.read import read_checkpoint
from efficientps.training.checkpoints.write import AtomicCheckpointIO, CheckpointWriteError


@pytest.fixture
def saved(tmp_path):
    """A writer, and a file in its folder that it has written before."""
    writer, path = AtomicCheckpointIO(), tmp_path / "run/checkpoints/last.ckpt"
    writer.save_checkpoint({"step": 1, "weight": torch.arange(1000)}, path)
    return writer, path


def test_a_file_is_written_and_replaced(saved):
    writer, path = saved
    assert read_checkpoint(path)["step"] == 1
    writer.save_checkpoint({"step": 2, "weight": torch.arange(1000)}, str(path))
    content = read_checkpoint(path)
    assert content["step"] == 2 and torch.equal(content["weight"], torch.arange(1000))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("size", [10, 10_000_000])
def test_full_disk(saved, size):
    """Oracle: a device that is always full, /dev/full, in the place of the unfinished file."""
    writer, path = saved
    path.with_name("last.ckpt.partial").symlink_to("/dev/full")
    with pytest.raises(
        CheckpointWriteError, match=r"last\.ckpt could not be written: No space left on device\. The one"
    ):
        writer.save_checkpoint({"step": 2, "weight": torch.zeros(size)}, path)
    assert read_checkpoint(path)["step"] == 1
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_full_disk_at_the_first_file(tmp_path):
    (tmp_path / "first.ckpt.partial").symlink_to("/dev/full")
    with pytest.raises(CheckpointWriteError, match=r"No space left on device\. There is none of that name yet"):
        AtomicCheckpointIO().save_checkpoint({"weight": torch.zeros(10_000)}, tmp_path / "first.ckpt")
    assert not list(tmp_path.iterdir())


def test_vanished_folder(saved):
    """A network drive that is gone comes back with everything on it: no new folder takes its place."""
    writer, path = saved
    shutil.rmtree(path.parents[1])
    with pytest.raises(CheckpointWriteError, match=r"its folder is gone\. Make it available and resume"):
        writer.save_checkpoint({"step": 2}, path)
    assert not path.parents[1].exists()


def test_no_permission(saved, monkeypatch):
    writer, path = saved

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(CheckpointWriteError, match=r"could not be written: Permission denied\. The one of that name"):
        writer.save_checkpoint({"step": 2}, path)
    assert read_checkpoint(path)["step"] == 1 and len(list(path.parent.iterdir())) == 1


def test_what_cannot_be_saved_is_the_programmers_error(saved):
    writer, path = saved
    with pytest.raises(Exception, match=r"pickle|lambda|local"):
        writer.save_checkpoint({"step": lambda: 2}, path)
    assert read_checkpoint(path)["step"] == 1 and len(list(path.parent.iterdir())) == 1
