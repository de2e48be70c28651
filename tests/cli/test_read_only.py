"""Places that cannot be written to: one sentence with the place and the option that chooses another."""

import builtins
import errno
import io
import json
import os
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest
import torch

from efficientps.atomic_file import write_text
from efficientps.cli.data import cache, check, from_coco_instances, split, synthetic_streets, synthetic_yard
from efficientps.cli.input_errors import explain_input
from efficientps.data.dataset import PanopticDataset
from tests.command_line import refuse, write_config


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """A folder on a file system that refuses every new file and folder, as a mount with the option ``ro`` does."""
    place = tmp_path / "mount"
    place.mkdir()

    def guarded(function, changes):
        def call(path, *args, **kwargs):
            is_inside = isinstance(path, str | os.PathLike) and str(place) in os.path.abspath(os.fspath(path))
            if is_inside and changes(*args, **kwargs):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return function(path, *args, **kwargs)

        return call

    def writes(mode="r", *_, **options):
        return set("wax+") & set(options.get("mode", mode))

    for module, name, changes in (
        (os, "mkdir", lambda *_, **__: True),
        (os, "open", lambda flags, *_, **__: flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)),
        (io, "open", writes),
        (builtins, "open", writes),
    ):
        monkeypatch.setattr(module, name, guarded(getattr(module, name), changes))
    return place


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["fit", "--trainer.default_root_dir", "{}/runs"], "trainer.default_root_dir"),
        (["validate", "--trainer.default_root_dir", "{}/runs"], "trainer.default_root_dir"),
        (["predict", "--predictions.output_dir", "{}/here"], "predictions.output_dir"),
        (["fit", "--checkpoint.dirpath", "{}/kept"], "checkpoint.dirpath"),
    ],
)
def test_the_key_of_the_place_is_named(read_only, shared_cityscapes_root, tmp_path, capfd, words, key):
    """Oracle: definition."""
    config = write_config(tmp_path, shared_cityscapes_root)
    words = [word.format(read_only) for word in words]
    sentence = refuse(capfd, words[0], "--config", config, *words[1:])
    assert sentence.startswith("error: Cannot write ") and sentence.endswith(f" (in the configuration: {key}).")
    assert words[-1] in sentence and "read-only" in sentence.lower() and "Errno" not in sentence


INSTANCES = {
    "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0,
                     "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}],
    "categories": [{"id": 1, "name": "car"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words", "option"),
    [
        (synthetic_streets.main, ["--root", "{to}", "--num-train", "1", "--num-val", "1"], "--root"),
        (synthetic_yard.main, ["--root", "{to}", "--num-images", "1"], "--root"),
        (cache.main, ["{cityscapes}", "--cache", "{to}", "--workers", "1"], "--cache"),
        (split.main, ["{yard}/panoptic.json", "--train", "{to}.json", "--val", "{here}/v.json"], "--train"),
        (split.main, ["{yard}/panoptic.json", "--train", "{here}/t.json", "--val", "{to}.json"], "--val"),
        (
            check.main,
            [
                "--images",
                "{yard}/images",
                "--annotations",
                "{yard}/val.json",
                "--maps",
                "{yard}/panoptic",
                "--json",
                "{to}.json",
            ],
            "--json",
        ),
        (from_coco_instances.main, ["{here}/instances.json", "--output", "{to}"], "--output"),
    ],
)
def test_the_option_of_a_command_is_named(
    read_only, yard_root, shared_cityscapes_root, tmp_path, capfd, command, words, option
):
    """Oracle: definition."""
    (tmp_path / "instances.json").write_text(json.dumps(INSTANCES))
    places = {"to": read_only / "new", "here": tmp_path, "yard": yard_root, "cityscapes": shared_cityscapes_root}
    assert command([word.format(**places) for word in words]) != 0
    (sentence,) = [line for line in capfd.readouterr().err.splitlines() if "error: Cannot write" in line]
    assert sentence.endswith(f": the file system is read-only; choose another path with {option}.")
    assert f"Cannot write {places['to']}" in sentence


def test_a_process_of_a_command_that_is_killed_is_explained():
    assert "machine is out of memory; give fewer of them with --workers" in explain_input(BrokenExecutor())


def test_a_worker_that_the_kernel_kills(shared_cityscapes_root, tmp_path, capfd, monkeypatch):
    """Oracle: definition; the signal is the one that the kernel sends."""

    def killed(self, index):
        assert torch.utils.data.get_worker_info() is not None
        time.sleep(0.5)  # until the main process waits: torch raises from a signal handler, wherever that one is
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(PanopticDataset, "__getitem__", killed)
    config = write_config(tmp_path, shared_cityscapes_root)
    for command in ("fit", "validate"):
        sentence = refuse(capfd, command, "--config", config, "--data.num_workers", 1)
        assert "A process that loads data was killed" in sentence and "lower data.num_workers" in sentence


def test_files_are_named_and_not_their_temporary_ones(read_only):
    """Oracle: definition."""
    with pytest.raises(OSError) as caught:
        write_text(Path(read_only, "a.json"), "{}")
    assert caught.value.filename == str(read_only / "a.json")
