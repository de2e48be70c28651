"""Images with 16 bits per channel that hold 10, 12 or 14 of them."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import efficientps
from efficientps.cli.data.check import main as check
from efficientps.data.dataset import DatasetOptions
from efficientps.data.formats.image_file import read_image
from efficientps.data.grey_values import GreyValues, grey_values, remark_on_range
from efficientps.data.sources.coco_panoptic import CocoPanoptic
from efficientps.data.sources.image_folder import ImageFolder
from efficientps.structures.categories import Categories, Category
from tests.command_line import refuse, run

RAMP = np.linspace(0, 4095, 32 * 64).round().astype(np.uint16).reshape(32, 64)


def write_ramp(folder, suffix=".png", bits=12):
    path = folder / f"a{suffix}"
    assert cv2.imwrite(str(path), RAMP >> 12 - bits if bits < 12 else RAMP << bits - 12)
    return path


@pytest.fixture
def coco(tmp_path, write_panoptic_folder):
    """A COCO panoptic folder whose one image has 12 bits, as the arguments of ``CocoPanoptic``."""
    ids = np.ones(RAMP.shape, dtype=int)
    arguments = write_panoptic_folder(
        tmp_path / "data",
        ids=ids,
        segments=[{"id": 1, "category_id": 7, "iscrowd": 0}],
        categories=[{"id": 7, "name": "road", "isthing": 0}, {"id": 8, "name": "car", "isthing": 1}],
    )
    write_ramp(tmp_path / "data/images")
    return arguments


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("bits", "levels"), [(10, 3), (12, 15), (14, 63), (16, 255)])
def test_a_range_uses_all_levels(tmp_path, suffix, bits, levels):
    """Oracle: numpy in floating point; by default 65535 becomes 255, as the upper byte has it."""
    path = write_ramp(tmp_path, suffix, bits)
    assert read_image(path).max() == levels
    read = read_image(path, grey_range=(0, 2**bits - 1))
    values = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), dtype=float)
    np.testing.assert_allclose(read[0].numpy(), 255 * values / (2**bits - 1), atol=0.5)
    assert torch.equal(read[0], read[2])
    found = grey_values(path)
    assert found == GreyValues(0, int(values.max()))
    remark = remark_on_range([found, None], grey_range=None)
    assert (remark is None) == (bits == 16)
    assert bits == 16 or (f"{levels} of 255 levels of grey" in remark and f"[0, {2**bits - 1}]" in remark)


def test_values_beside_the_range_are_black_and_white(tmp_path):
    path = write_ramp(tmp_path)
    read = read_image(path, grey_range=(1000, 2000))
    assert set(read[:, torch.from_numpy(RAMP.astype(int)) <= 1000].unique().tolist()) == {0}
    assert set(read[:, torch.from_numpy(RAMP.astype(int)) >= 2000].unique().tolist()) == {255}
    remark = remark_on_range([grey_values(path)], grey_range=(1000, 2000))
    assert "values are 0 to 4095: those outside of grey_range, 1000 to 2000, are black or white" in remark


def test_images_without_such_values_have_no_remark(tmp_path):
    Image.new("L", (8, 8), 9).save(tmp_path / "grey.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "rgb.jpg")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    assert [grey_values(path) for path in sorted(tmp_path.iterdir())] == [None, None, None]
    assert remark_on_range([None], grey_range=None) is None


def test_coloured_images_are_to_be_converted(tmp_path):
    """Oracle: Pillow gives the upper byte of each channel, 15 of 4095."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.stack([RAMP] * 3, axis=-1))
    assert read_image(path).max() == 15
    remark = remark_on_range([grey_values(path)], grey_range=None)
    assert "do not exceed 4095: they become 0 to 15 of 255 levels. Convert the images to 8 bits" in remark


def test_check_names_the_range_once(coco, capsys):
    words = ["--images", coco["image_root"], "--annotations", coco["annotation_file"], "--maps", coco["map_root"]]
    words = [str(word) for word in words]
    assert check(words) == 0
    out = capsys.readouterr().out
    assert out.count("remark: 1 of the images looked at are grey with 16 bits, and their values are 0 to 4095") == 1
    assert check([*words, "--grey-range", "0", "4095"]) == 0
    assert "grey with 16 bits" not in capsys.readouterr().out
    assert check([*words, "--grey-range", "7", "7"]) == 1
    assert "grey_range is [7, 7]; give the value that becomes black and a greater one" in capsys.readouterr().err


def test_a_training_says_it_once_and_its_checkpoint_knows_the_range(coco, tmp_path, capfd):
    """Oracle: definition; a remark without the range, none with it, and a checkpoint that reads images as it did."""
    root = tmp_path / "data"
    part = {"images": str(root / "images"), "annotations": str(root / "a.json"), "maps": str(root / "maps")}
    config = {
        "model": {"network": {"class_path": "tests.tiny_network.TinyNetwork"}},
        "data": {
            "class_path": "CocoPanopticDataModule",
            "init_args": {
                "root": str(root), "train": part, "val": part, "image_size": [32, 64], "batch_size": 1, "num_workers": 0
            },
        },
        "trainer": {
            "accelerator": "cpu", "max_epochs": 1, "default_root_dir": str(tmp_path / "runs"),
            "enable_progress_bar": False, "enable_model_summary": False,
        },
    }  # fmt: skip
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"values are 0 to 4095: they become 0 to 15 of 255 levels") as caught:
        run("fit", "--config", path)
    assert sum("levels of grey" in str(warning.message) for warning in caught) == 1
    sentence = refuse(capfd, "fit", "--config", path, "--data.grey_range=[9,5]")
    assert "grey_range is [9, 5]; give the value" in sentence and "data.grey_range)" in sentence
    run("fit", "--config", path, "--data.grey_range=[0,4095]")
    predictor = efficientps.load(
        tmp_path / "runs/version_1/checkpoints/last.ckpt", device="cpu", trust=["tests.tiny_network"]
    )
    assert predictor.grey_range == (0, 4095)
    image = predictor(root / "images/a.png").image
    assert int(image.max()) == 255


def test_a_cache_of_another_range_is_refused(coco, tmp_path):
    pytest.importorskip("blosc2")
    from efficientps.data.cache import SampleCache

    categories = Categories([Category(7, "road", (0, 0, 0), False), Category(8, "car", (1, 1, 1), True)])
    (tmp_path / "cache").mkdir()
    cache = SampleCache(root=tmp_path / "cache")
    CocoPanoptic(**coco, categories=categories, options=DatasetOptions(grey_range=(0, 4095))).write_cache(0, cache)
    with pytest.raises(ValueError, match=r"grey 0 to 4095"):
        CocoPanoptic(**coco, categories=categories, options=DatasetOptions(cache=tmp_path / "cache")).checked(0)


@pytest.mark.parametrize("grey_range", [(5, 5), (-1, 10), (1, 2, 3)])
def test_the_range_is_checked(tmp_path, grey_range):
    for make in (DatasetOptions, lambda **options: ImageFolder(path=tmp_path, **options)):
        with pytest.raises(ValueError, match=r"grey_range is .*; give the value that becomes black and a greater one"):
            make(grey_range=grey_range)
