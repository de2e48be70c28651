import json

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels
from PIL import Image

from efficientps.data.sources.cityscapes import (
    CITYSCAPES_CATEGORIES,
    CityscapesDataModule,
    CityscapesPanoptic,
)
from efficientps.data.sources.split_files import MissingCityscapesError, MissingMapsError
from efficientps.data.tools.cityscapes_conversion import prepare_split


def test_table_is_that_of_cityscapesscripts():
    """Oracle: cityscapesscripts' labels, in the order of their train ids."""
    evaluated = sorted((label for label in labels if label.trainId not in (-1, 255)), key=lambda label: label.trainId)
    expected = [(label.id, label.name, label.color, label.hasInstances) for label in evaluated]
    assert [(c.label_id, c.name, c.color, c.is_thing) for c in CITYSCAPES_CATEGORIES] == expected
    assert (CITYSCAPES_CATEGORIES.num_stuff, CITYSCAPES_CATEGORIES.num_things) == (11, 8)


def test_reads_the_official_tree(cityscapes_root, hand_drawn_map):
    """Oracle: the scene drawn by hand, whose ids the official conversion keeps (void becomes 0)."""
    dataset = CityscapesPanoptic(root=cityscapes_root, split="val")
    samples = {sample["image_id"]: sample for sample in (dataset[i] for i in range(len(dataset)))}
    assert samples.keys() == {"lindau_000000_000000", "munster_000000_000000", "frankfurt_000000_000000"}
    sample = samples["munster_000000_000000"]
    expected = np.where(hand_drawn_map == 3, 0, hand_drawn_map)
    assert sample["segment_ids"].dtype == torch.int32 and np.array_equal(sample["segment_ids"], expected)
    found = {(s.id, CITYSCAPES_CATEGORIES[s.train_id].name, s.is_thing, s.is_crowd) for s in sample["segments"]}
    assert found == {
        (7, "road", False, False),
        (23, "sky", False, False),
        (24, "person", True, True),
        (26000, "car", True, False),
        (26001, "car", True, False),
    }
    stored = cityscapes_root / "leftImg8bit" / "val" / "munster" / "munster_000000_000000_leftImg8bit.png"
    assert np.array_equal(sample["image"].permute(1, 2, 0), np.asarray(Image.open(stored)))
    assert sample["image"].dtype == torch.uint8 and sample["original_size"] == (32, 64)


def test_missing_root_is_named(tmp_path):
    with pytest.raises(MissingCityscapesError, match=r"folder '.*nowhere' does not exist"):
        CityscapesPanoptic(root=tmp_path / "nowhere", split="train")


def test_empty_root_is_named(tmp_path):
    with pytest.raises(MissingCityscapesError, match=r"lacks 'gtFine' or 'leftImg8bit/train'"):
        CityscapesPanoptic(root=tmp_path, split="train")


def test_missing_maps_are_named(tmp_path, write_cityscapes):
    write_cityscapes(tmp_path, "train", ["aachen_000000_000019"])
    with pytest.raises(MissingMapsError, match=r"cityscapes_panoptic_train.json' do not exist; .* have to be made"):
        CityscapesPanoptic(root=tmp_path, split="train")


class OtherFiles(CityscapesDataModule):
    """Has the classes of Cityscapes, and files that it finds by itself."""

    def dataset(self, split, options):
        raise NotImplementedError


def test_files_are_looked_for_where_they_are_read(tmp_path):
    """Oracle: by hand. Prediction reads no annotations; a subclass that opens other files has none of these."""
    data = CityscapesDataModule(root=str(tmp_path / "nowhere"))
    for stage in ("fit", "validate", "test"):
        with pytest.raises(MissingCityscapesError, match=r"folder '.*nowhere' does not exist"):
            data.check_files_of(stage)
    data.check_files_of("predict")
    OtherFiles(root=str(tmp_path / "nowhere")).check_files_of("fit")


def test_annotations_with_train_ids_are_refused(cityscapes_root):
    """A JSON made with --use-train-id and renamed would pass for label ids: train id 7 is a sign, label id 7 a road."""
    path = cityscapes_root / "gtFine" / "cityscapes_panoptic_val.json"
    document = json.loads(path.read_text())
    train_ids = {label.name: label.trainId for label in labels}
    for category in document["categories"]:
        category["id"] = train_ids[category["name"]]
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"calls category \d+ '.*' where the table of classes says '.*'"):
        CityscapesPanoptic(root=cityscapes_root, split="val")


@pytest.mark.cityscapes
def test_reads_real_images(tmp_path, cityscapes_sample):
    """Oracle: areas and classes that the official conversion wrote into its JSON."""
    for part in ("leftImg8bit", "gtFine"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "train").symlink_to(cityscapes_sample / part / "train")
    prepare_split(tmp_path, "train")
    dataset = CityscapesPanoptic(root=tmp_path, split="train")
    assert len(dataset) == 4
    for index, entry in enumerate(dataset.entries):
        sample = dataset[index]
        assert sample["image"].shape == (3, 1024, 2048)
        counts = torch.bincount(sample["segment_ids"].flatten().long())
        assert {s.id: int(counts[s.id]) for s in sample["segments"]} == {s.id: s.area for s in entry.segments}
