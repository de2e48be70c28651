"""Mistakes that spoil all maps of a data set are said once, with their count and what to do.

Oracle: maps that a test spoils in the way that the sentence names.
"""

import json

import numpy as np
import pytest
from PIL import Image

from efficientps.data.formats.annotation_file import read_annotation_file
from efficientps.data.formats.id_map import id_to_rgb
from efficientps.data.map_mistakes import mistake_of
from efficientps.data.tools.check_coco import check_coco_panoptic

NUM_IMAGES = 3


@pytest.fixture
def spoiled(tmp_path):
    """A function that writes images of 48x64 with two segments, and maps that another function makes of theirs."""

    def write(spoil):
        for folder in ("images", "maps"):
            (tmp_path / folder).mkdir()
        document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "road", "isthing": 0}]}
        document["categories"].append({"id": 2, "name": "car", "isthing": 1})
        for number in range(NUM_IMAGES):
            numbers = (70_000 + number, 80_000 + number)
            ids = np.full((48, 64), numbers[0], dtype=np.int32)
            ids[10:30, 10:40] = numbers[1]
            Image.new("RGB", (64, 48)).save(tmp_path / f"images/{number}.png")
            Image.fromarray(spoil(id_to_rgb(ids), ids, tmp_path)).save(tmp_path / f"maps/{number}.png")
            segments = [{"id": numbers[0], "category_id": 1}, {"id": numbers[1], "category_id": 2}]
            image = {"id": number, "file_name": f"{number}.png", "height": 48, "width": 64}
            document["images"].append(image)
            document["annotations"].append(
                {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
            )
        (tmp_path / "maps.json").write_text(json.dumps(document))
        return check_coco_panoptic(tmp_path / "maps.json", tmp_path / "maps", tmp_path / "images", workers=1)

    return write


def reversed_channels(rgb, ids, folder):
    return np.ascontiguousarray(rgb[..., ::-1])


def through_jpeg(rgb, ids, folder):
    Image.fromarray(rgb).save(folder / "lossy.jpg", quality=80)
    return np.asarray(Image.open(folder / "lossy.jpg").convert("RGB"))


def interpolated(rgb, ids, folder):
    small = Image.fromarray(rgb).resize((23, 17), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((64, 48), Image.Resampling.BICUBIC))


def semantic(rgb, ids, folder):
    return id_to_rgb(np.where(ids < 80_000, 1, 2).astype(np.int32))


@pytest.mark.parametrize(
    ("spoil", "kind", "remedy"),
    [
        (reversed_channels, "if its channels are read in reverse", "OpenCV's imwrite takes channels as BGR"),
        (through_jpeg, "many times more colours than the annotation file has segments", "save them as PNG alone"),
        (interpolated, "many times more colours than the annotation file has segments", "resize them to the nearest"),
        (semantic, "has ids of categories where ids of segments belong", "efficientps convert masks makes them"),
    ],
)
def test_a_mistake_in_all_maps_is_one_problem(spoiled, spoil, kind, remedy):
    report = spoiled(spoil)
    assert list(report.problems.counts.values()) == [NUM_IMAGES]
    lines = report.problems.lines("error: ")
    assert kind in lines[0] and f"{NUM_IMAGES} of this kind" in lines[1]
    assert lines[-1].strip().startswith("What to do: ") and remedy in lines[-1]
    assert len(lines) == 2 + NUM_IMAGES


def test_a_mistake_that_explains_no_part_of_a_map_is_not_named():
    """A map with one id too many, or with few unknown ids, has another fault. Oracle: hand-made ids."""
    assert mistake_of({1, 2, 3}, {1, 2}) is None
    assert mistake_of({26 << 16 | 7, 5}, {26 | 7 << 16}) is None
    assert mistake_of(set(range(1, 60)), {1}) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda document: document["images"][0].pop("width"), r"has no 'images[0].width'"),
        (lambda document: document["images"][0].update(height=0), r"has 0 as 'images[0].height'"),
        (lambda document: document["annotations"][0].pop("file_name"), r"has no 'annotations[0].file_name'"),
    ],
)
def test_a_faulty_element_is_not_also_called_missing(spoiled, tmp_path, change, fault):
    """One change is one fault: the image whose entry is faulty has an entry. Oracle: the change."""
    spoiled(lambda rgb, ids, folder: rgb)
    document = json.loads((tmp_path / "maps.json").read_text())
    change(document)
    (tmp_path / "maps.json").write_text(json.dumps(document))
    report = check_coco_panoptic(tmp_path / "maps.json", tmp_path / "maps", tmp_path / "images", workers=1)
    (problem,) = report.problems
    assert fault in problem


def test_an_element_that_is_missing_is_called_so(spoiled, tmp_path):
    """Oracle: an image and an annotation of others that a test takes away."""
    spoiled(lambda rgb, ids, folder: rgb)
    document = json.loads((tmp_path / "maps.json").read_text())
    del document["images"][0], document["annotations"][1]
    (tmp_path / "maps.json").write_text(json.dumps(document))
    assert [
        problem.rpartition("has ")[2] for problem in read_annotation_file(tmp_path / "maps.json").disagreements
    ] == [
        "no entry in 'images' for the image id '0'.",
        "no annotation for the image id '1'.",
    ]
