"""The synthetic Cityscapes tree: files, official conversion, workers, idempotence, refusal, command line."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from PIL import Image

from efficientps.synthetic.streets import render_scene, write_synthetic_cityscapes, writer
from efficientps.synthetic.streets.writer import scene_seed
from tests.sweep import sweep

SIZE = (64, 128)
REPOSITORY = Path(__file__).parents[3]


def write(root, **changes):
    write_synthetic_cityscapes(
        root, **{"num_train": 5, "num_val": 2, "size": SIZE, "seed": 3, "num_workers": 0, **changes}
    )


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "tree"
    write(root)
    return root


def test_the_tree_is_named_as_cityscapes(tree):
    # Oracle: the naming rule of Cityscapes; each image has its two label files, each label file its image.
    images = sorted((tree / "leftImg8bit").rglob("*.png"))
    assert len(images) == 7
    for image in images:
        split, city = image.parent.parent.name, image.parent.name
        name, sequence, frame, suffix = image.name.split("_")
        assert name == city and suffix == "leftImg8bit.png" and len(sequence) == len(frame) == 6
        for kind in ("instanceIds", "labelIds"):
            assert (tree / "gtFine" / split / city / f"{city}_{sequence}_{frame}_gtFine_{kind}.png").is_file()


def test_files_hold_the_rendered_scenes(tree):
    # Oracle: rendering the same seed; read back with PIL.
    scene = render_scene(scene_seed(3, "val", 1), SIZE)
    stem = tree / "gtFine" / "val" / "dunmore" / "dunmore_000001_000019_gtFine"
    instance_ids = np.array(Image.open(f"{stem}_instanceIds.png"))
    image = np.array(Image.open(tree / "leftImg8bit" / "val" / "dunmore" / "dunmore_000001_000019_leftImg8bit.png"))
    np.testing.assert_array_equal(image, scene.image)
    np.testing.assert_array_equal(instance_ids, scene.instance_ids)
    np.testing.assert_array_equal(np.array(Image.open(f"{stem}_labelIds.png")), scene.label_ids)
    assert Image.open(f"{stem}_instanceIds.png").mode.startswith("I")


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 2)])
def test_panoptic_annotations_agree_with_the_instance_ids(tree, split, count):
    # Oracle: counting pixels of each instance id, with the label table of cityscapesscripts.
    document = json.loads((tree / "gtFine" / f"cityscapes_panoptic_{split}.json").read_text())
    assert len(document["categories"]) == 19 and len(document["images"]) == len(document["annotations"]) == count
    for annotation in document["annotations"]:
        city = annotation["image_id"].split("_")[0]
        path = tree / "gtFine" / split / city / f"{annotation['image_id']}_gtFine_instanceIds.png"
        codes, areas = np.unique(np.array(Image.open(path)), return_counts=True)
        expected = {}
        for code, area in zip(codes.tolist(), areas.tolist(), strict=True):
            label = id2label[code if code < 1000 else code // 1000]
            if not label.ignoreInEval:
                expected[code] = (label.id, area, int(code < 1000 and label.hasInstances))
        found = {s["id"]: (s["category_id"], s["area"], s["iscrowd"]) for s in annotation["segments_info"]}
        assert found == expected
        rgb = np.array(Image.open(tree / "gtFine" / f"cityscapes_panoptic_{split}" / annotation["file_name"])).astype(
            int
        )
        ids, areas = np.unique(rgb @ [1, 256, 65536], return_counts=True)
        painted = {i: a for i, a in zip(ids.tolist(), areas.tolist(), strict=True) if i}
        assert painted == {code: area for code, (_, area, _) in expected.items()}


def test_the_number_of_workers_does_not_matter(tree, tmp_path):
    # Oracle: the tree written in one process, byte for byte.
    write(tmp_path / "tree", num_workers=2)
    assert digest(tmp_path / "tree") == digest(tree)


def test_train_and_val_hold_different_scenes():
    # Oracle: all seeds of two data sets are distinct.
    seeds = [scene_seed(seed, split, index) for seed in (0, 1) for split in ("train", "val") for index in range(300)]
    assert len(set(seeds)) == len(seeds)


def test_a_finished_tree_is_left_alone(tree):
    # Oracle: modification times.
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    write(tree)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_other_arguments_make_the_tree_anew(tmp_path):
    # Oracle: the tree written into an empty directory.
    write(tmp_path / "tree", num_train=3)
    write(tmp_path / "tree", num_train=1, num_val=1, seed=4)
    write(tmp_path / "fresh", num_train=1, num_val=1, seed=4)
    assert digest(tmp_path / "tree") == digest(tmp_path / "fresh")


def test_an_interrupted_run_is_redone(tmp_path, monkeypatch):
    # Oracle: the tree written without an interruption.
    arguments = {"num_train": 1, "num_val": 1}

    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(writer, "convert2panoptic", interrupt)
        write(tmp_path / "tree", **arguments)
    (tmp_path / "tree" / "leftImg8bit" / "train" / "stale.png").touch()
    write(tmp_path / "tree", **arguments)
    write(tmp_path / "fresh", **arguments)
    assert digest(tmp_path / "tree") == digest(tmp_path / "fresh")


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "leftImg8bit").mkdir()
    (tmp_path / "leftImg8bit" / "precious.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"is not empty and was not written by this generator"):
        write(tmp_path)
    assert digest(tmp_path) == {"leftImg8bit/precious.png": hashlib.sha256(b"mine").hexdigest()}


@sweep(
    "changes, message",
    [
        ({"num_train": -1}, r"must not be negative nor both 0, but are -1 \(train\) and 2 \(val\)"),
        ({"num_train": 0, "num_val": 0}, r"must not be negative nor both 0"),
        ({"size": (32, 64)}, r"at least 64 × 128 pixels, not 32 × 64"),
        ({"seed": -5}, r"must not be negative, but is -5"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "tree", **changes)
    assert not (tmp_path / "tree").exists()


def test_one_split_alone_is_possible(tmp_path):
    # Oracle: the file list.
    write(tmp_path / "tree", num_train=0, num_val=1)
    assert (tmp_path / "tree" / "gtFine" / "cityscapes_panoptic_val.json").is_file()
    assert not (tmp_path / "tree" / "gtFine" / "cityscapes_panoptic_train.json").exists()


def test_the_command_says_in_one_line_what_it_made(tmp_path):
    # Oracle: the sentence, and the marker of the tree; run as a user would, from the root of the repository.
    command = [sys.executable, "datasets/prepare_synthetic.py", "--root", str(tmp_path / "tree")]
    command += ["--num-train", "1", "--num-val", "1", "--size", "64", "128", "--workers", "1", "--seed", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"1 train and 1 val scenes of 64 × 128 pixels (seed 2) in {tmp_path / 'tree'}"]
    assert json.loads((tmp_path / "tree" / "synthetic.json").read_text())["finished"] is True


def test_the_command_reports_an_error_in_one_line(tmp_path):
    (tmp_path / "precious").touch()
    command = [sys.executable, "datasets/prepare_synthetic.py", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "is not empty and was not written by this generator" in done.stderr
