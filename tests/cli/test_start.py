"""What a command line does before it names a mistake; none of it is measured in seconds."""

import json
import shutil
import sys

import pytest

from efficientps.cli import start, train
from efficientps.cli.input_errors import explain_missing_data
from efficientps.cli.missing_data import missing_data
from efficientps.cli.panoptic_cli import PanopticCLI
from efficientps.cli.presets import REFERENCE, find_config
from tests.command_line import refuse

BACKBONE = """
from efficientps.backbones import EfficientNetBackbone


class NeverBuilt(EfficientNetBackbone):
    def __init__(self, variant: str = "b0", pretrained: bool = True):
        raise ValueError("the backbone is built")
"""
"""A file of a user's own; its backbone is in the place of one with pretrained weights."""


@pytest.fixture
def fit(tmp_path, monkeypatch, capfd):
    """A function that begins a training of a network with that backbone, and returns the one sentence it ends with."""
    (tmp_path / "never_built.py").write_text(BACKBONE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "never_built", raising=False)
    words = ["--model.network", "EfficientPS", "--model.network.backbone", "never_built.NeverBuilt"]
    return lambda *options: refuse(capfd, "fit", "--config", "cityscapes_paper", *words, *options)


def test_a_wrong_path_is_named_before_the_network_is_built(fit, tmp_path, shared_cityscapes_root, write_cityscapes):
    """Oracle: the right path, with which the backbone says that it is built."""
    assert "the backbone is built" in fit("--data.root", shared_cityscapes_root)
    sentence = fit("--data.root", "nowhere")
    assert sentence.startswith("error: Cityscapes folder 'nowhere' does not exist (in the configuration: data.root). ")
    for split in ("train", "val"):
        write_cityscapes(tmp_path / "raw", split, ["aachen_000000_000019"])
    assert "cityscapes_panoptic_train.json' do not exist; they are" in fit("--data.root", "raw")
    shutil.copy(shared_cityscapes_root / "gtFine/cityscapes_panoptic_train.json", "raw/gtFine")
    assert "cityscapes_panoptic_val.json' do not exist; they are" in fit("--data.root", "raw")


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("train.annotations", "none.json", "error: Annotation file '{}/none.json' does not exist."),
        ("val.annotations", "none.json", "error: Annotation file '{}/none.json' does not exist."),
        ("val.maps", "none", "error: Folder '{0}/none' does not exist; '{0}/val.json' refers to it."),
        ("train.images", "none", "error: Folder '{0}/none' does not exist; '{0}/train.json' refers to it."),
    ],
)
def test_a_wrong_path_of_a_coco_set_is_named_before_the_network_is_built(part, value, sentence, fit, yard_root):
    splits = {
        name: {"images": "images", "annotations": f"{name}.json", "maps": "panoptic"} for name in ("train", "val")
    }
    split, _, key = part.partition(".")
    splits[split][key] = value
    data = {"class_path": "CocoPanopticDataModule", "init_args": {"root": str(yard_root), **splits}}
    assert fit("--data", json.dumps(data)) == sentence.format(yard_root)


@pytest.mark.parametrize(("words", "number"), [(["fit", "--help"], 1), (["predict", "--help"], 1), (["--help"], 4)])
def test_the_parser_of_the_named_command_alone_is_built(words, number, monkeypatch, capsys):
    """Oracle: by hand. Without a command, the help lists all of them."""
    built = []
    add_arguments = PanopticCLI.add_arguments_to_parser
    monkeypatch.setattr(
        PanopticCLI, "add_arguments_to_parser", lambda self, parser: built.append(add_arguments(self, parser))
    )
    assert train.main(words) == 0
    assert len(built) == number
    listed = "{fit,validate,test,predict}" in capsys.readouterr().out
    assert listed == (number == 4)


TINY = {"network": {"class_path": "tests.tiny_network.TinyNetwork"}}
COCO = {
    "class_path": "CocoPanopticDataModule",
    "init_args": {
        "root": "yard",
        "train": {"images": "images", "annotations": "train.json", "maps": "panoptic"},
        "val": {"images": "images", "annotations": "none.json"},
    },
}


@pytest.fixture
def folder(tmp_path, yard_root, monkeypatch):
    """The working directory, with a configuration of COCO panoptic data that lack the annotations of "val"."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yard").symlink_to(yard_root)
    (tmp_path / "root.yaml").write_text("data: {class_path: CityscapesDataModule, init_args: {root: nowhere}}")
    (tmp_path / "coco.yaml").write_text(json.dumps({"model": TINY, "data": COCO}))
    (tmp_path / "flat.yaml").write_text(json.dumps({"model": TINY, "data": {"root": "nowhere", "batch_size": 1}}))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["fit"],
        ["--data.root=nowhere"],
        ["fit", "--data.root", "yard", "--config", "flat.yaml"],
        ["validate", "-c", "cityscapes_paper", "--config=root.yaml", "--data.batch_size", "2"],
        ["fit", "--config", "coco.yaml"],
        ["test", "--config", "coco.yaml", "--data.root=nowhere"],
    ],
    ids=" ".join,
)
def test_a_wrong_path_is_named_before_the_imports(words, folder, capfd):
    """Oracle: the sentence of the command itself, which parses the words."""
    error = missing_data(words, REFERENCE)
    assert f"error: {explain_missing_data(error)}" == refuse(capfd, *words)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "--config", "flat.yaml"],
        ["fit", "--config", "flat.yaml", "--print_config"],
        ["fit", "--config", "flat.yaml", "--ckpt_path=last"],
        ["fit", "--config", "flat.yaml", "--data", "mine.Data"],
        ["fit", "--config", "flat.yaml", "--data.class_path=mine.Data"],
        ["fit", "--config", "coco.yaml", "--data.val.annotations", "val.json"],
        ["fit", "--config", "coco.yaml", "--config", "coco.yaml"],
        ["fit", "--config", "mine.yaml"],
        ["fit", "--config", "rootless.yaml"],
        ["fit", "--config", "broken.yaml"],
        ["fit", "--config", "none.yaml"],
        ["fit", "--config"],
        ["fit", "--data.root"],
    ],
    ids=" ".join,
)
def test_what_only_the_parser_knows_is_left_to_it(words, folder):
    """Oracle: by hand; each of these may have, or need, other data than those that are not there."""
    (folder / "mine.yaml").write_text("data: {class_path: mine.Data, init_args: {root: nowhere}}")
    (folder / "rootless.yaml").write_text("data: {batch_size: 1}")
    (folder / "broken.yaml").write_text("data: {root: nowhere")
    assert missing_data(words, REFERENCE) is None


def test_data_that_are_there_are_no_error(shared_cityscapes_root, yard_root):
    """Oracle: the trees that other tests train on."""
    assert missing_data(["fit", "--data.root", str(shared_cityscapes_root)], REFERENCE) is None
    words = ["fit", "--config", find_config("demo_yard"), "--data.root", str(yard_root)]
    assert missing_data(words, REFERENCE) is None


def test_each_mistake_is_named_once(folder, capfd):
    """Oracle: the path is named before the imports, and the key by the parser."""
    assert start.run(["fit", "--config", "flat.yaml"]) == 1
    assert capfd.readouterr().err.count("error: ") == 1
    assert start.run(["fit", "--config", "flat.yaml", "--model.pretraned", "true"]) == 1
    path, key = (line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))
    assert "folder 'nowhere' does not exist" in path and "pretraned" in key
