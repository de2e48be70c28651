import json
import shutil

import numpy as np
import pytest
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from PIL import Image

from efficientps.data.tools import cityscapes_conversion
from efficientps.data.tools.cityscapes_conversion import check_tree, is_complete, prepare_split

IMAGE_IDS = [f"{city}_{number:06d}_000019" for city in ("bochum", "aachen") for number in range(20)]


@pytest.fixture
def raw_root(tmp_path, write_cityscapes):
    """A tree of two cities and 40 images, more than one task of a worker, without panoptic maps."""
    write_cityscapes(tmp_path / "cityscapes", "train", IMAGE_IDS)
    return tmp_path / "cityscapes"


def outcome(root):
    """Return the panoptic files of a tree and their bytes."""
    files = [root / "cityscapes_panoptic_train.json", *(root / "cityscapes_panoptic_train").iterdir()]
    return {file.name: file.read_bytes() for file in files}


def contents(root):
    return sorted(path.name for path in (root / "gtFine").iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_makes_what_the_official_converter_makes(tmp_path, raw_root, workers, capfd):
    """Oracle: the converter itself, run on the whole tree; equal byte for byte, whatever the number of processes."""
    calls = []
    assert prepare_split(raw_root, "train", workers=workers, progress=lambda *call: calls.append(call))
    assert capfd.readouterr().out == ""
    assert calls == [(16, 40), (32, 40), (40, 40)]
    (tmp_path / "official").mkdir()
    convert2panoptic(str(raw_root / "gtFine"), str(tmp_path / "official"), False, ["train"])
    assert outcome(raw_root / "gtFine") == outcome(tmp_path / "official")
    assert contents(raw_root) == ["cityscapes_panoptic_train", "cityscapes_panoptic_train.json", "train"]


def test_a_second_run_does_nothing(raw_root):
    assert prepare_split(raw_root, "train")
    before = {path: path.stat().st_mtime_ns for path in raw_root.rglob("*")}
    assert not prepare_split(raw_root, "train")
    assert before == {path: path.stat().st_mtime_ns for path in raw_root.rglob("*")}


def remove_map(root):
    next((root / "gtFine" / "cityscapes_panoptic_train").iterdir()).unlink()


def empty_map(root):
    next((root / "gtFine" / "cityscapes_panoptic_train").iterdir()).write_bytes(b"")


def cut_json(root):
    file = root / "gtFine" / "cityscapes_panoptic_train.json"
    file.write_bytes(file.read_bytes()[:1000])


def drop_annotation(root):
    file = root / "gtFine" / "cityscapes_panoptic_train.json"
    document = json.loads(file.read_text())
    document["annotations"].pop()
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("damage", [remove_map, empty_map, cut_json, drop_annotation])
def test_incomplete_results_are_made_again(raw_root, damage):
    """Oracle: the result before the damage."""
    prepare_split(raw_root, "train")
    whole = outcome(raw_root / "gtFine")
    damage(raw_root)
    assert not is_complete(raw_root, "train")
    assert prepare_split(raw_root, "train")
    assert outcome(raw_root / "gtFine") == whole


def test_an_interrupted_run_leaves_nothing_that_looks_finished(raw_root, monkeypatch):
    """Interrupted while maps are made, and while they are moved into place: the JSON is not there."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cityscapes_conversion, "_merge", interrupt)
        prepare_split(raw_root, "train")
    assert contents(raw_root) == ["train"]
    prepare_split(raw_root, "train")
    remove_map(raw_root)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cityscapes_conversion.os, "replace", interrupt)
        prepare_split(raw_root, "train")
    assert contents(raw_root) == ["cityscapes_panoptic_train", "train"]
    assert prepare_split(raw_root, "train") and is_complete(raw_root, "train")


def test_what_a_killed_run_left_is_cleared(raw_root):
    stale = raw_root / "gtFine" / ".cityscapes_panoptic_train.partial"
    (stale / "000000").mkdir(parents=True)
    (stale / "000000" / "old.png").write_bytes(b"old")
    prepare_split(raw_root, "train")
    assert not stale.exists()
    assert len(list((raw_root / "gtFine" / "cityscapes_panoptic_train").iterdir())) == len(IMAGE_IDS)


def test_missing_root_says_where_to_get_the_data(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"nowhere' does not exist; .*leftImg8bit_trainvaltest\.zip and gtFine_trainvaltest\.zip from https://www",
    ):
        check_tree(tmp_path / "nowhere", "train")


@pytest.mark.parametrize(
    ("part", "package"),
    [("gtFine", "gtFine_trainvaltest.zip"), ("leftImg8bit", "leftImg8bit_trainvaltest.zip")],
)
def test_a_missing_part_names_its_package(raw_root, part, package):
    shutil.rmtree(raw_root / part)
    with pytest.raises(FileNotFoundError, match=f"lacks '{part}/train'; unpack {package} from https://www"):
        check_tree(raw_root, "train")


def test_an_empty_part_is_named(raw_root):
    shutil.rmtree(raw_root / "gtFine" / "train")
    (raw_root / "gtFine" / "train").mkdir()
    with pytest.raises(FileNotFoundError, match=r"gtFine/train' holds no '\*/\*_gtFine_instanceIds.png'"):
        check_tree(raw_root, "train")


@pytest.mark.parametrize(("part", "suffix"), [("gtFine", "gtFine_instanceIds.png"), ("leftImg8bit", "leftImg8bit.png")])
def test_single_missing_files_are_counted_and_named(raw_root, part, suffix):
    for number in (3, 5):
        (raw_root / part / "train" / "bochum" / f"bochum_{number:06d}_000019_{suffix}").unlink()
    message = rf"lacks 2 of 40 files of '{part}/train', the first is 'bochum/bochum_000003_000019_{suffix}'"
    with pytest.raises(FileNotFoundError, match=message):
        prepare_split(raw_root, "train")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_annotation_is_named(raw_root, workers):
    file = raw_root / "gtFine" / "train" / "bochum" / "bochum_000007_000019_gtFine_instanceIds.png"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"bochum_000007_000019_gtFine_instanceIds\.png' cannot be decoded"):
        prepare_split(raw_root, "train", workers=workers)
    assert contents(raw_root) == ["train"]


UNKNOWN = {
    "a label with instances": (np.uint16, 65_001, "has the value 65001, whose label 65 is none"),
    "a label without instances": (np.uint8, 200, "has the value 200, whose label 200 is none"),
    "the ignore value of train ids": (np.uint8, 255, "has the value 255, whose label 255 is none"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_label_names_its_file(case, raw_root):
    """One of 40 files, in the middle of a task."""
    kind, value, message = UNKNOWN[case]
    file = raw_root / "gtFine" / "train" / "bochum" / "bochum_000007_000019_gtFine_instanceIds.png"
    with Image.open(file) as image:
        ids = np.zeros((image.height, image.width), dtype=kind)
    ids[1, 2] = value
    Image.fromarray(ids).save(file)
    with pytest.raises(ValueError, match=rf"'[^']*bochum_000007_000019_gtFine_instanceIds\.png' {message}"):
        prepare_split(raw_root, "train")
    assert contents(raw_root) == ["train"]


def test_an_annotation_in_colours_is_named(raw_root):
    file = raw_root / "gtFine" / "train" / "bochum" / "bochum_000007_000019_gtFine_instanceIds.png"
    Image.new("RGB", (5, 4)).save(file)
    with pytest.raises(
        ValueError, match=r"bochum_000007_000019_gtFine_instanceIds\.png' has .RGB. pixels, which are colours; one"
    ):
        prepare_split(raw_root, "train")


def test_a_folder_without_permission_is_named(raw_root, monkeypatch):
    """The tests may run as root, whom no permission stops: the refusal is simulated."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cityscapes_conversion.Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"Cannot write into '.*gtFine', where the panoptic maps belong"):
        prepare_split(raw_root, "train")
