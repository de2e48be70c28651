import json
import os

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official
from PIL import Image

from efficientps.data.formats.coco_json import read_panoptic_json
from efficientps.data.formats.export import PanopticWriter, export_ids
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.structures import PanopticSegmentation, Segment
from tests.sweep import sweep

ROAD, CAR = CITYSCAPES_CATEGORIES.train_id(7), CITYSCAPES_CATEGORIES.train_id(26)


def scene():
    """Road, two cars, and a crowd of cars; a column of void; ids in no order."""
    ids = torch.tensor([[9, 9, 9, 0, 5], [9, 2, 2, 0, 5], [9, 2, 7, 0, 7]], dtype=torch.int32)
    segments = [
        Segment(5, CAR, True, score=0.75),
        Segment(9, ROAD, False),
        Segment(2, CAR, True, score=0.5),
        Segment(7, CAR, True, is_crowd=True),
    ]
    return PanopticSegmentation(ids, segments)


def test_files_hold_the_map_the_areas_and_the_boxes(tmp_path):
    # Oracle: by hand; label ids of Cityscapes, instances numbered in the order of the list.
    with PanopticWriter(tmp_path / "new" / "folder", CITYSCAPES_CATEGORIES) as writer:
        path = writer.write("aachen_000000_000019", scene(), image_file_name="aachen_000000_000019_leftImg8bit.png")
    assert path == tmp_path / "new" / "folder" / "panoptic" / "aachen_000000_000019_panoptic.png"
    assert read_id_map(path).tolist() == [[7, 7, 7, 0, 26000], [7, 26001, 26001, 0, 26000], [7, 26001, 26, 0, 26]]
    document = json.loads(writer.json_path.read_text())
    assert document["images"] == [
        {"id": "aachen_000000_000019", "file_name": "aachen_000000_000019_leftImg8bit.png", "height": 3, "width": 5}
    ]
    assert document["annotations"] == [
        {
            "image_id": "aachen_000000_000019",
            "file_name": "aachen_000000_000019_panoptic.png",
            "segments_info": [
                {"id": 26000, "category_id": 26, "iscrowd": 0, "area": 2, "bbox": [4, 0, 1, 2], "score": 0.75},
                {"id": 7, "category_id": 7, "iscrowd": 0, "area": 5, "bbox": [0, 0, 3, 3], "score": 1.0},
                {"id": 26001, "category_id": 26, "iscrowd": 0, "area": 3, "bbox": [1, 1, 2, 2], "score": 0.5},
                {"id": 26, "category_id": 26, "iscrowd": 1, "area": 2, "bbox": [2, 2, 3, 1], "score": 1.0},
            ],
        }
    ]
    assert document["categories"][0] == {"id": 7, "name": "road", "color": [128, 64, 128], "isthing": 0}
    assert len(document["categories"]) == 19


def test_random_maps_survive_the_round_trip(tmp_path):
    # Oracle: reading back; areas and boxes by naive search of each segment's pixels.
    rng = np.random.default_rng(0)
    maps = {}
    with PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES) as writer:
        for image_id in ("a", "b", "c"):
            ids = np.repeat(rng.choice([0, 3, 70_000, 16_777_215, 5], (9, 4)), 3, axis=1).astype(np.int32)
            segments = [Segment(i, t, t >= 11) for i, t in ((3, 0), (70_000, 13), (16_777_215, 13), (5, 18))]
            maps[image_id] = PanopticSegmentation(torch.from_numpy(ids), segments)
            writer.write(image_id, maps[image_id])
    document = json.loads(writer.json_path.read_text())
    assert [entry.image_id for entry in read_panoptic_json(writer.json_path, CITYSCAPES_CATEGORIES)] == list(maps)
    for annotation in document["annotations"]:
        source = maps[annotation["image_id"]]
        written = read_id_map(writer.map_directory / annotation["file_name"])
        assert set(np.unique(written)) - {0} == {info["id"] for info in annotation["segments_info"]}
        for info, segment in zip(annotation["segments_info"], source.segments, strict=True):
            mask = (source.segment_ids == segment.id).numpy()
            np.testing.assert_array_equal(written == info["id"], mask)
            rows, columns = np.nonzero(mask)
            width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
            assert info["area"] == mask.sum()
            assert info["bbox"] == [columns.min(), rows.min(), width, height]
            assert info["category_id"] == CITYSCAPES_CATEGORIES[segment.train_id].label_id


def test_cityscapesscripts_reads_it(tmp_path):
    # Oracle: cityscapesscripts' evaluation of a map against itself; all classes of the map at 100 %.
    with PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES) as writer:
        writer.write("aachen_000000_000019", scene())
    document = json.loads(writer.json_path.read_text())
    pairs = [(annotation, annotation) for annotation in document["annotations"]]
    categories = {item["id"]: item for item in document["categories"]}
    counts = official.pq_compute_single_core(0, pairs, writer.map_directory, writer.map_directory, categories)
    assert official.average_pq(counts, categories)["All"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}


def test_an_empty_prediction_is_written(tmp_path):
    # Oracle: by contract; an all-void map has a PNG of zeros and no segments.
    with PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES) as writer:
        path = writer.write("empty", PanopticSegmentation(torch.zeros(4, 6, dtype=torch.int32)))
    assert not read_id_map(path).any()
    assert json.loads(writer.json_path.read_text())["annotations"][0]["segments_info"] == []


def test_ids_are_unique_whatever_the_segments():
    # Oracle: by contract; thousands of instances of one class, and two segments of a stuff class.
    segments = [Segment(i, CAR - 1, True) for i in range(1, 1500)] + [Segment(i, CAR, True) for i in range(1500, 1600)]
    segments += [Segment(9000, ROAD, False), Segment(9001, ROAD, False)]
    ids = export_ids(segments, CITYSCAPES_CATEGORIES)
    assert len(set(ids)) == len(segments) and 0 not in ids
    assert ids[-2:] == [7, 7000]


def test_an_error_leaves_no_json(tmp_path):
    # Oracle: by contract; a run that breaks off leaves no file that looks whole, nor one half-written.
    with pytest.raises(RuntimeError), PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES) as writer:
        writer.write("a", scene())
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a_panoptic.png"]


@sweep(
    "image_id, segments, message",
    [
        ("a", scene().segments, r"Image id 'a' is written twice to '.*panoptic\.json'"),
        ("a/b", scene().segments, "Image id 'a/b' cannot be part of a file name"),
        ("", scene().segments, "Image id '' cannot be part of a file name"),
        ("b", scene().segments[1:], "has pixels of segment 5, which is not in its segments"),
        ("b", [*scene().segments, Segment(11, ROAD, False)], "has no pixel of segment 11, which is in its segments"),
    ],
)
def test_bad_predictions_are_refused(tmp_path, image_id, segments, message):
    with PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES) as writer:
        writer.write("a", scene())
        with pytest.raises(ValueError, match=message):
            writer.write(image_id, PanopticSegmentation(scene().segment_ids, segments))
    assert [path.name for path in writer.map_directory.iterdir()] == ["a_panoptic.png"]


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"Cannot write predictions to '.*file' \(.+\); choose a folder"):
        PanopticWriter(tmp_path / "file", CITYSCAPES_CATEGORIES)
    if os.geteuid() != 0:  # the superuser may write everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(ValueError, match=r"Cannot write predictions to '.*locked' \(Permission denied\)"):
            PanopticWriter(tmp_path / "locked", CITYSCAPES_CATEGORIES)


def test_a_disk_that_fills_up_is_reported(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    writer = PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ValueError, match=r"Cannot write predictions to '.*' \(No space left on device\)"):
        writer.write("a", scene())
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ValueError, match=r"Cannot write predictions to '.*' \(No space left on device\)"):
        writer.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
