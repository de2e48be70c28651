"""Names that begin with a dot are no data, in whatever folder they lie."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from efficientps.data.formats.image_file import UnusableImageError, read_image
from efficientps.data.tools.check_coco import check_coco_panoptic
from efficientps.data.tools.cityscapes_conversion import is_complete, prepare_split
from efficientps.training.checkpoints.resolve import newest_first

TWIN = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        "
"""The beginning of the file that macOS writes beside another one."""


def add_twins(root):
    """Give each file a twin, as macOS does on other disks."""
    for folder, _, names in list(os.walk(root)):
        for name in names:
            with open(os.path.join(folder, f"._{name}"), "wb") as file:
                file.write(TWIN)


def test_cityscapes_with_twins(tmp_path, write_cityscapes):
    """Oracle: the files that the same tree without twins gives; 20 images, so that a task would hold twins alone."""
    for name in ("plain", "twins"):
        write_cityscapes(tmp_path / name, "train", [f"bonn_{number:06d}_000019" for number in range(20)])
    add_twins(tmp_path / "twins")
    shutil.copytree(tmp_path / "twins/gtFine/train/bonn", tmp_path / "twins/gtFine/train/.trash")
    for name in ("plain", "twins"):
        assert prepare_split(tmp_path / name, "train")
    made = {name: tmp_path / name / "gtFine/cityscapes_panoptic_train" for name in ("plain", "twins")}
    assert made["plain"].with_suffix(".json").read_bytes() == made["twins"].with_suffix(".json").read_bytes()
    assert {file.name for file in made["plain"].iterdir()} == {file.name for file in made["twins"].iterdir()}
    add_twins(made["twins"])
    assert is_complete(tmp_path / "twins", "train") and not prepare_split(tmp_path / "twins", "train")


def test_maps_and_checkpoints_with_twins(yard_root, tmp_path):
    root = shutil.copytree(yard_root, tmp_path / "yard")
    add_twins(root)
    report = check_coco_panoptic(root / "panoptic.json", root / "panoptic", root / "images")
    assert not report.problems and not report.remarks
    (tmp_path / "runs/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/checkpoints/last.ckpt").touch()
    add_twins(tmp_path / "runs")
    assert [path.name for path in newest_first(tmp_path / "runs")] == ["last.ckpt"]


def test_a_twin_that_is_named_has_its_sentence(tmp_path):
    (tmp_path / "._a.png").write_bytes(TWIN)
    with pytest.raises(UnusableImageError, match=r"is not an image file of a known kind; macOS wrote it beside"):
        read_image(tmp_path / "._a.png")
    Image.fromarray(np.zeros((2, 3), dtype=np.uint8)).save(tmp_path / ".b.png")
    assert read_image(tmp_path / ".b.png").shape == (3, 2, 3)
