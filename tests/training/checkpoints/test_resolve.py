"""Which checkpoint a run goes on from."""

import os

import pytest
import torch

from efficientps.training.checkpoints.resolve import CHECKPOINT_NAME, resolve_checkpoint


def touch(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 1}, path)
    os.utime(path, (seconds, seconds))
    return path


def name(epoch, quality):
    return CHECKPOINT_NAME.replace("val/PQ", "quality").format(epoch=epoch, quality=quality) + ".ckpt"


def test_last_is_the_newest_of_all_runs(tmp_path):
    touch(tmp_path / "version_0/checkpoints/last.ckpt", 100)
    newest = touch(tmp_path / "version_1/checkpoints/last.ckpt", 300)
    touch(tmp_path / "version_2/checkpoints/last-v1.ckpt", 200)
    touch(tmp_path / "version_2/checkpoints" / name(3, 0.5), 400)
    assert resolve_checkpoint("last", tmp_path) == newest


def test_damaged_last_is_passed_over(tmp_path, caplog):
    """Oracle: hand-made; the newest is truncated, then empty ones follow, then the one that is whole."""
    caplog.set_level("INFO", logger="pytorch_lightning")
    whole = touch(tmp_path / "version_0/checkpoints" / name(3, 0.5), 100)
    older = touch(tmp_path / "version_0/checkpoints/last.ckpt", 200)
    newest = touch(tmp_path / "version_1/checkpoints/last.ckpt", 300)
    os.truncate(newest, newest.stat().st_size // 2)
    assert resolve_checkpoint("last", tmp_path) == older
    assert caplog.messages[0].startswith(f"The checkpoint {newest} cannot be read: the file is truncated")
    assert caplog.messages[0].endswith(f"Taking {older} instead.")
    os.truncate(older, 0)
    assert resolve_checkpoint("last", tmp_path) == whole
    os.truncate(whole, 10)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read"):
        resolve_checkpoint("last", tmp_path)


def test_best_is_of_the_newest_run(tmp_path):
    touch(tmp_path / "version_0/checkpoints" / name(9, 0.9), 100)
    best = touch(tmp_path / "version_1/checkpoints" / name(2, 0.61), 200)
    touch(tmp_path / "version_1/checkpoints" / name(3, 0.5912), 300)
    touch(tmp_path / "version_1/checkpoints/last.ckpt", 300)
    assert resolve_checkpoint("best", tmp_path) == best


@pytest.mark.parametrize("choice", ["last", "best"])
def test_no_run_yet(tmp_path, choice):
    assert resolve_checkpoint(choice, tmp_path / "runs") is None


def test_a_path_is_taken_as_it_is_or_refused(tmp_path):
    path = touch(tmp_path / "x.ckpt", 100)
    assert resolve_checkpoint(str(path), tmp_path) == path
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*y\.ckpt; give the path of a file, or 'la"):
        resolve_checkpoint(str(tmp_path / "y.ckpt"), tmp_path)
