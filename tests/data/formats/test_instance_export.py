import json

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO as FasterCOCO
from pycocotools.coco import COCO

from efficientps.data.formats.export import PanopticWriter
from efficientps.data.formats.instance_export import INSTANCE_FILES
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.structures import PanopticSegmentation, Segment

ROAD, CAR, PERSON = (CITYSCAPES_CATEGORIES.train_id(label_id) for label_id in (7, 26, 24))


def random_map(seed):
    """Eight segments in blocks of noise; every class, with a crowd that is no instance."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(rng.integers(0, 8, (9, 7)), 3, axis=1).astype(np.int32)
    classes = {1: ROAD, 2: CAR, 3: CAR, 4: PERSON, 5: PERSON, 6: PERSON, 7: CAR}
    segments = [
        Segment(number, train_id, train_id != ROAD, score=number / 8, is_crowd=number == 7)
        for number, train_id in classes.items()
        if number in ids
    ]
    return PanopticSegmentation(torch.from_numpy(ids), segments)


@pytest.mark.parametrize("library", [COCO, FasterCOCO])
@pytest.mark.parametrize(("written_as", "last"), [("annotations", "7"), ("annotations", "street"), ("results", "7")])
def test_masks_are_the_segments_of_things(written_as, last, library, tmp_path):
    """Oracle: pycocotools and faster_coco_eval, which load the file and decode its masks."""
    maps = {"139": random_map(0), last: random_map(1)}
    ids = [139, 7] if last == "7" else [1, 2]
    with PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES, instances=written_as) as writer:
        for image_id, panoptic in maps.items():
            writer.write(image_id, panoptic, image_file_name=f"sub/{image_id}.jpg")
    path = tmp_path / INSTANCE_FILES[written_as]
    if written_as == "annotations":
        coco = library(str(path))
        content = json.loads(path.read_text())
        assert [image["file_name"] for image in content["images"]] == ["sub/139.jpg", f"sub/{last}.jpg"]
        assert [item["id"] for item in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    else:
        document = json.loads(writer.json_path.read_text())
        truth = library()
        truth.dataset = {"images": document["images"], "annotations": [], "categories": document["categories"]}
        truth.createIndex()
        coco = truth.loadRes(str(path))
    found = coco.dataset["annotations"]
    for image_id, panoptic in zip(ids, maps.values(), strict=True):
        items = [item for item in found if item["image_id"] == image_id]
        things = [segment for segment in panoptic.segments if segment.is_thing and not segment.is_crowd]
        assert len(items) == len(things) > 3
        for item, segment in zip(items, things, strict=True):
            mask = (panoptic.segment_ids == segment.id).numpy()
            assert np.array_equal(coco.annToMask(item).astype(bool), mask)
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1]
            assert list(item["bbox"]) == box and item["area"] == mask.sum() and item["score"] == segment.score
            assert item["category_id"] == CITYSCAPES_CATEGORIES[segment.train_id].label_id


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="instances is 'coco'; give 'annotations' or 'results', or nothing"):
        PanopticWriter(tmp_path, CITYSCAPES_CATEGORIES, instances="coco")
