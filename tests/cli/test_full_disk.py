"""A disk that is full ends a run with one sentence, and leaves its last whole checkpoint."""

import csv
import errno
import os
import shutil

import pytest

from efficientps.training import run_folder
from efficientps.training.checkpoints.read import read_checkpoint
from tests.command_line import refuse, run, write_config


@pytest.fixture
def config(shared_cityscapes_root, tmp_path):
    return write_config(tmp_path, shared_cityscapes_root)


@pytest.fixture
def begun(trained_run, config, tmp_path):
    """A copy of a run of one epoch, below the root of ``config``."""
    shutil.copytree(trained_run, tmp_path / "runs")
    return tmp_path / "runs/version_0"


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_room_for_a_folder(config, capfd, monkeypatch, tmp_path):
    def no_folder(root):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root / "version_0"))

    monkeypatch.setattr(run_folder, "new_folder", no_folder)
    sentence = refuse(capfd, "fit", "--config", config)
    assert sentence == f"error: No space left on device: {tmp_path / 'runs/version_0'}."


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config.yaml", "No space left on device: {run}/config.yaml."),
        ("metrics.csv", "No space left on device: {run}/metrics.csv."),
        ("evaluation/val_epoch001.json", "No space left on device: {run}/evaluation/val_epoch001.json."),
        (
            "checkpoints/last.ckpt",
            "The checkpoint {run}/checkpoints/last.ckpt could not be written: No space left on device. The one of that "
            "name before it is intact; make room and resume.",
        ),
    ],
)
def test_no_room_for_a_file(config, begun, capfd, name, sentence):
    """Oracle: a device that is always full, /dev/full, in the place of each file while it is written."""
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file() and path.suffix != ".log"}
    begun.joinpath(f"{name}.partial").symlink_to("/dev/full")
    said = refuse(capfd, "fit", "--config", config, "--ckpt_path", "last")
    assert said == "error: " + sentence.format(run=begun)
    last = begun / "checkpoints/last.ckpt"
    assert last.read_bytes() == before[last] and read_checkpoint(last)["global_step"] == 3
    if name == "config.yaml":
        assert (begun / name).read_bytes() == before[begun / name]
    assert run("fit", "--config", config, "--ckpt_path", "last").trainer.global_step == 6


def test_no_room_for_a_row(config, begun, capfd, monkeypatch):
    write_row = csv.DictWriter.writerow

    def write_header_only(self, row):
        return write_row(self, row) if row["step"] == "step" else full()

    with monkeypatch.context() as patched:
        patched.setattr(csv.DictWriter, "writerow", write_header_only)
        said = refuse(capfd, "fit", "--config", config, "--ckpt_path", "last")
    assert said == (
        f"error: The log {begun}/metrics.csv could not be written: No space left on device. Make room and resume."
    )
    assert read_checkpoint(begun / "checkpoints/last.ckpt")["global_step"] == 3
    assert run("fit", "--config", config, "--ckpt_path", "last").trainer.global_step == 6


def test_no_room_for_curves(config, begun, capfd, monkeypatch):
    """Oracle: TensorBoard's writer fails in a thread of its own; one sentence, no traceback."""
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer").RecordWriter
    with monkeypatch.context() as patched:
        patched.setattr(writer, "write", full)
        capfd.readouterr()
        assert run("fit", "--config", config, "--ckpt_path", "last") == 1
    lines = capfd.readouterr().err
    assert (
        "error: A file could not be written: No space left on device. Make room, and run the command again.\n" in lines
    )
    assert "Traceback" not in lines
