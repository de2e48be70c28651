import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientps.synthetic.yards import YARD_CATEGORIES, render_yard, write_synthetic_yard
from efficientps.synthetic.yards.scene import MIN_AREA
from tests.sweep import sweep

SCRIPT = Path(__file__).parents[2] / "datasets/prepare_synthetic_yard.py"


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_classes_are_unlike_those_of_cityscapes():
    """Oracle: the requirements on the data set."""
    things = [category.label_id for category in YARD_CATEGORIES if category.is_thing]
    ids = [category.label_id for category in YARD_CATEGORIES]
    assert len(YARD_CATEGORIES) == 16 and min(things) > 1
    assert max(ids) - min(ids) > len(ids)  # gaps
    kinds = [category.is_thing for category in YARD_CATEGORIES]
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)


def test_scenes_depend_on_the_seed_alone():
    first, again, other = (render_yard(seed, (96, 128)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.segment_ids, again.segment_ids)
    assert not np.array_equal(first.image, other.image)


def test_every_class_and_void_and_crowds_occur():
    """Oracle: counting in 60 scenes."""
    scenes = [render_yard(seed, (120, 160)) for seed in range(60)]
    assert {label for scene in scenes for label in scene.label_ids} == {c.label_id for c in YARD_CATEGORIES}
    assert 0 < sum(any(scene.crowds) for scene in scenes) < 60
    assert any((scene.segment_ids == 0).any() for scene in scenes)
    for scene in scenes:
        areas = np.bincount(scene.segment_ids.ravel())[1:]
        assert len(areas) == len(scene.label_ids) and areas.min() >= MIN_AREA


def test_too_small_a_yard_is_refused():
    with pytest.raises(ValueError, match="has at least 48 pixels on each side, not 47x100"):
        render_yard(0, (47, 100))


def test_annotations_say_what_the_maps_hold(yard_root):
    """Oracle: counting pixels and taking extremes of coordinates in the files, read with PIL."""
    document = json.loads((yard_root / "panoptic.json").read_text())
    assert [item["id"] for item in document["categories"]] == [c.label_id for c in YARD_CATEGORIES]
    sizes = {(image["height"], image["width"]) for image in document["images"]}
    assert len(sizes) > 8 and any(h > w for h, w in sizes) and any(w > h for h, w in sizes)
    assert all(isinstance(image["id"], int) for image in document["images"])
    for image, annotation in zip(document["images"], document["annotations"], strict=True):
        assert Image.open(yard_root / "images" / image["file_name"]).size == (image["width"], image["height"])
        rgb = np.array(Image.open(yard_root / "panoptic" / annotation["file_name"])).astype(int)
        ids = rgb @ [1, 256, 65536]
        assert set(np.unique(ids).tolist()) - {0} == {segment["id"] for segment in annotation["segments_info"]}
        for segment in annotation["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            assert segment["area"] == len(rows)
            x, y = int(columns.min()), int(rows.min())
            assert segment["bbox"] == [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]


def test_the_same_arguments_give_the_same_files(tmp_path):
    for name in ("a", "b"):
        list(write_synthetic_yard(tmp_path / name, num_images=3, size=160, seed=5))
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert list(write_synthetic_yard(tmp_path / "a", num_images=3, size=160, seed=5)) == [3]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before


def test_an_interrupted_run_is_redone(tmp_path):
    """Oracle: the data set that was written without interruption."""
    next(iter(write_synthetic_yard(tmp_path / "a", num_images=3, size=160)))
    list(write_synthetic_yard(tmp_path / "a", num_images=3, size=160))
    list(write_synthetic_yard(tmp_path / "b", num_images=3, size=160))
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_other_data_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and does not hold the same synthetic yard"):
        list(write_synthetic_yard(tmp_path, num_images=1))
    assert digest(tmp_path).keys() == {"precious.txt"}


@sweep("choice", [{"num_images": 0}, {"seed": -1}, {"size": 100}])
def test_bad_choices_are_refused(tmp_path, choice):
    with pytest.raises(ValueError, match=r"give at least one image, a size within .* and a seed of at least 0"):
        list(write_synthetic_yard(tmp_path / "a", **choice))
    assert not (tmp_path / "a").exists()


def test_command_line(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    words = ["--root", str(tmp_path / "yard"), "--num-images", "2", "--size", "160"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"2 yards (seed 0) in {tmp_path / 'yard'}\n"
    assert main([*words, "--seed", "1"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
