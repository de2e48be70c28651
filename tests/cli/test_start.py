"""What a command line does before it names a mistake; none of it is measured in seconds."""

import json
import shutil
import sys

import pytest

from efficientps.cli import train
from efficientps.cli.panoptic_cli import PanopticCLI
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
