"""A data set with a format of its own, in one file: bad samples, cache and checks work as for every other."""

import json
import os
import re
import runpy

import numpy as np
import pytest
import torch
import yaml

from efficientps.cli.arguments import DEFAULT_CONFIG
from efficientps.data.cache import SampleCache
from efficientps.data.dataset import DatasetOptions
from efficientps.data.tools.check import check_dataset
from tests.command_line import refuse, run, write_config
from tests.strangers.stranger_dataset import ScenesDataModule


@pytest.fixture
def root(tmp_path):
    """Seven scenes for training and two for validation: the ground, and two balls on it."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, number in (("train", 7), ("val", 2)):
        names = [f"{split}_{place}" for place in range(number)]
        for name in names:
            ids = np.ones((32, 64), dtype=np.int32)
            ids[4:20, 4:20], ids[10:30, 40:60] = 2, 3
            image = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
            np.savez(folder / f"{name}.npz", image=image, segment_ids=ids)
        (folder / f"{split}.json").write_text(json.dumps({name: [[1, 1], [2, 2], [3, 2]] for name in names}))
    return folder


@pytest.fixture
def config(tmp_path, root):
    """The configuration of the tests, with one line more: the class."""
    path = write_config(tmp_path, root)
    content = yaml.safe_load(path.read_text())
    content["data"] = {"class_path": f"{ScenesDataModule.__module__}.ScenesDataModule", "init_args": content["data"]}
    path.write_text(yaml.safe_dump(content))
    return path


def plant_a_fault(root, split="train"):
    """List a ball that is in no map."""
    index = json.loads((root / f"{split}.json").read_text())
    index[f"{split}_1"].append([4, 2])
    (root / f"{split}.json").write_text(json.dumps(index))
    return rf"Panoptic map '{root}/{split}_1.npz' has no pixel of segment 4, which the annotations of image"


def dataset(root, split="train", **choices):
    data = ScenesDataModule(root=str(root), image_size=(32, 64))
    return data.dataset(split, DatasetOptions(**choices))


@pytest.mark.parametrize("content", [b"no archive", b""], ids=["damaged", "empty"])
def test_it_trains_and_leaves_out_a_bad_sample(content, config, root, capfd):
    """Oracle: the damaged scene is named once, and the validation has its figure."""
    (root / "train_2.npz").write_bytes(content)
    cli = run("fit", "--config", config, "--data.on_bad_sample", "skip", "--trainer.max_epochs", 1)
    assert cli.trainer.global_step == 3
    assert cli.datamodule.train_dataset.bad_samples.positions == [2]
    said = f"Skipped a bad sample (1 met so far, 1 allowed): Image 'train_2' cannot be read from '{root}/train_2.npz'"
    assert capfd.readouterr().err.count(said) == 1
    assert 0 <= cli.trainer.callback_metrics["val/PQ"] <= 1


def test_a_cache_replaces_its_files(root, tmp_path):
    """Oracle: the samples of the files, which are then overwritten by others of the same size and time."""
    plain, cache = dataset(root), SampleCache(root=tmp_path / "cache")
    expected = [plain[index] for index in range(len(plain))]
    assert all(plain.write_cache(index, cache) for index in range(len(plain)))
    for entry in plain.entries:
        state = os.stat(entry.files[0])
        with open(entry.files[0], "wb") as file:
            file.write(bytes(state.st_size))
        os.utime(entry.files[0], (state.st_atime, state.st_mtime))
    with pytest.raises(ValueError, match=r"train_0\.npz"):
        plain[0]
    for index, sample in enumerate(dataset(root, cache=tmp_path / "cache")):
        assert torch.equal(sample["image"], expected[index]["image"])
        assert torch.equal(sample["segment_ids"], expected[index]["segment_ids"])
        assert sample["segments"] == expected[index]["segments"]


def test_a_check_counts_and_finds_a_fault(root):
    """Oracle: hand-worked; 16x16 and 20x20 pixels of balls in each good scene of 32x64."""
    sentence = plant_a_fault(root)
    report = check_dataset(dataset(root))
    assert [problem.partition(": ")[0] for problem in report.problems] == ["Image 'train_1'"]
    assert sentence in next(iter(report.problems))
    assert (report.images, report.bad_images, report.area, report.void) == (7, 1, 6 * 32 * 64, 0)
    ball = 6 * (16 * 16 + 20 * 20)
    assert [tuple(count) for count in report.classes] == [
        ("ground", False, 6, 0, 6, 6 * 32 * 64 - ball),
        ("ball", True, 12, 0, 6, ball),
    ]


def test_entries_and_files_that_disagree_are_one_sentence(config, root, capfd):
    sentence = plant_a_fault(root)
    assert sentence in refuse(capfd, "fit", "--config", config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image": np.zeros((32, 63, 3), np.uint8)},
            r"is 32x64 pixels .* and image 'train_0' is 32x63",
        ),
        ({"image": np.zeros((32, 64, 3), np.float32)}, r"Image 'train_0' was read as torch.float32 \[3, 32, 64\]"),
        ({"segment_ids": np.ones((32, 64), np.int64)}, r"train_0\.npz' was read as torch\.int64 \[32, 64\]"),
        ({"segment_ids": np.full((32, 64), -1, np.int32)}, r"train_0\.npz': the map has the segment id -1"),
    ],
    ids=["size", "image type", "map type", "negative id"],
)
def test_what_is_read_is_checked(root, change, message):
    with np.load(root / "train_0.npz") as scene:
        content = dict(scene)
    np.savez(root / "train_0.npz", **content | change)
    with pytest.raises(ValueError, match=message):
        dataset(root)[0]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "The data set has no image"),
        ({"train_0": [[1, 1], [2, 5]]}, "Image 'train_0': Category id 5 is not in the table of classes"),
    ],
)
def test_entries_are_checked(root, index, message):
    (root / "train.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        dataset(root)


def test_a_mistake_of_the_reader_is_no_bad_sample(root, monkeypatch):
    """Oracle: the error of Python itself comes through, and nothing is counted."""
    data = dataset(root)
    monkeypatch.setattr(type(data), "read", lambda self, entry: entry.no_such_thing)
    with pytest.raises(AttributeError, match="no_such_thing"):
        data[0]


def command(name):
    """Return ``main`` of a script of datasets/."""
    return runpy.run_path(str(DEFAULT_CONFIG.parent / "datasets" / f"{name}.py"))["main"]


def test_the_check_command_reads_a_configuration(config, root, tmp_path, capfd):
    """Oracle: hand-worked counts; then the planted fault of a validation image."""
    check, found = command("check_panoptic"), tmp_path / "found.json"
    assert check(["--config", str(config), "--json", str(found)]) == 0
    assert {split: part["images"] for split, part in json.loads(found.read_text()).items()} == {"train": 7, "val": 2}
    sentence = plant_a_fault(root, "val")
    capfd.readouterr()
    assert check(["--config", str(config)]) == 1
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert sentence in error


def test_the_cache_command_reads_a_configuration(config, root, tmp_path):
    """Oracle: the scenes are overwritten after the command, which reads a run's own ``config.yaml``."""
    pytest.importorskip("blosc2")
    words = ("fit", "--config", config, "--trainer.max_epochs", 1)
    run(*words)
    saved, cache = tmp_path / "runs/version_0/config.yaml", tmp_path / "cache"
    assert command("prepare_cache")(["--config", str(saved), "--cache", str(cache), "--workers", "1"]) == 0
    for file in root.glob("*.npz"):
        state = os.stat(file)
        file.write_bytes(bytes(state.st_size))
        os.utime(file, (state.st_atime, state.st_mtime))
    cli = run(*words, "--data.cache", cache)
    assert cli.trainer.global_step == 3
    assert 0 <= cli.trainer.callback_metrics["val/PQ"] <= 1


@pytest.mark.parametrize("name", ["check_panoptic", "prepare_cache"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {}", r"tiny\.yaml' has no section 'data'"),
        ("data: {class_path: strange.Scenes}", "there is no module 'strange'"),
        ("data: {class_path: CocoPanopticDataModul}", "'CocoPanopticDataModul' is no PanopticDataModule; did you"),
        ("data: [", r"tiny\.yaml'? is not valid YAML"),
        (
            "data: {image_size: [33, 64]}",
            r"image_size is 33x64; .* \(in the configuration: data\.image_size\)\.$",
        ),
        (None, r"The configuration .*tiny\.yaml does not exist\.$"),
    ],
    ids=["no data", "no module", "no class", "no YAML", "bad value", "no file"],
)
def test_configurations_of_the_commands_are_checked(name, content, message, config, tmp_path, capfd):
    config.unlink() if content is None else config.write_text(content)
    words = ["--config", str(config)] + (["--cache", str(tmp_path / "cache")] if name == "prepare_cache" else [])
    assert command(name)(words) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(f"^error: .*{message}", line)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("check_panoptic", ["--config", "a.yaml", "--images", "images"], "--config takes the place of --images"),
        ("check_panoptic", ["--images", "images"], "give either --images and --annotations, or --config"),
        ("prepare_cache", ["--config", "a.yaml", "tree"], "give either the root of a Cityscapes tree"),
        ("prepare_cache", ["--config", "a.yaml", "--upright"], "--maps and --upright belong to --annotations"),
        ("prepare_cache", ["tree"], "give the folder of the cache as --cache"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(name, words, message, capsys):
    with pytest.raises(SystemExit):
        command(name)(words)
    assert message in capsys.readouterr().err


def test_a_configuration_without_the_folder_of_a_cache(config, capfd):
    assert command("prepare_cache")(["--config", str(config)]) == 1
    assert "has no data.cache; give the folder of the cache as --cache" in capfd.readouterr().err
