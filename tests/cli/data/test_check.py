"""The check of a configuration finds what keeps a training from its first step. Oracle: what ``fit`` says."""

import json

import pytest
import yaml

from efficientps.cli.data.check import main as check
from tests.command_line import refuse, write_config

EFFICIENTPS = {"class_path": "EfficientPS", "init_args": {"instance_head": "MaskRCNNHead"}}
SMALL = {"class_path": "ResNetBackbone", "init_args": {"variant": "resnet10t", "pretrained": False}}
DETR = {"class_path": "DETRPanoptic", "init_args": {"backbone": SMALL, "detector": {"num_queries": 3}}}


def all_of_one_kind(documents, *, isthing):
    for document in documents.values():
        document["categories"] = [category | {"isthing": isthing} for category in document["categories"]]


def one_image(documents):
    document = documents["train"]
    document["images"] = document["images"][:1]
    image_id = document["images"][0]["id"]
    document["annotations"] = [item for item in document["annotations"] if item["image_id"] == image_id]


@pytest.fixture
def written(yard_root, tmp_path):
    """A function that writes a configuration of changed annotations of the yard with a network."""

    def write(change, network=None):
        documents = {split: json.loads((yard_root / f"{split}.json").read_text()) for split in ("train", "val")}
        change(documents)
        places = {}
        for split, document in documents.items():
            path = tmp_path / f"{split}.json"
            path.write_text(json.dumps(document))
            places[split] = {"images": "images", "annotations": str(path), "maps": "panoptic"}
        path = write_config(tmp_path, yard_root)
        content = yaml.safe_load(path.read_text())
        content["data"] = {"class_path": "CocoPanopticDataModule", "init_args": content["data"] | places}
        content["model"]["network"] = network or content["model"]["network"]
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.mark.parametrize(
    ("change", "network", "words"),
    [
        (lambda documents: all_of_one_kind(documents, isthing=1), EFFICIENTPS, "needs stuff classes and thing classes"),
        (lambda documents: None, DETR, "segments and the detector 3 queries"),
        (one_image, None, "The training set has 1 images, fewer than one batch of 2"),
    ],
    ids=["things", "queries", "one image"],
)
def test_what_a_training_refuses_is_found(written, change, network, words, capfd):
    config = written(change, network)
    said = refuse(capfd, "fit", "--config", config)
    assert check(["--config", str(config), "--workers", "1"]) == 1
    found = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert found == [said] and words in said


def test_what_a_training_takes_is_no_problem(written, capfd):
    """DETR learns things alone, and the network of a stranger is built as a training builds it."""
    enough = {"class_path": "DETRPanoptic", "init_args": {"backbone": SMALL, "detector": {"num_queries": 100}}}
    for network in (None, enough):
        config = written(lambda documents: all_of_one_kind(documents, isthing=1), network)
        assert check(["--config", str(config), "--workers", "1"]) == 0
    assert "error" not in capfd.readouterr().err


def test_one_kind_of_classes_is_a_remark_where_no_network_is_named(written, yard_root, tmp_path, capfd):
    for isthing in (0, 1):
        written(lambda documents, isthing=isthing: all_of_one_kind(documents, isthing=isthing))
        words = ["--images", yard_root / "images", "--annotations", tmp_path / "train.json", "--maps"]
        assert check([str(word) for word in (*words, yard_root / "panoptic", "--workers", 1)]) == 0
        assert "remark: EfficientPS needs stuff classes and thing classes" in capfd.readouterr().out
