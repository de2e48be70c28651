"""What a stranger adds in one file beside the working directory, and chooses by one line, trains and validates."""

import shutil
import sys
from pathlib import Path

import pytest

from efficientps.backbones import TimmBackbone
from tests.command_line import column, refuse, run, write_config

HERE = Path(__file__).parent


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Copy a file to an empty working directory, from which Python imports nothing by itself; return its lines."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])

    def copy(name):
        shutil.copy(HERE / name, folder)
        return len((HERE / name).read_text().splitlines())

    yield copy
    for name in ("stranger_backbone", "stranger_family"):
        sys.modules.pop(name, None)


@pytest.fixture
def options(cityscapes_root, tmp_path):
    """Options of a run of two steps and a validation on a small tree, with learning rates by group."""
    config = write_config(tmp_path, cityscapes_root)
    return [
        *("--config", config, "--trainer.max_epochs", 1),
        *("--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 1),
        *("--model.optimizer", "AdamW", "--model.optimizer.lr", 1e-3, "--model.backbone_lr_factor", 0.1),
    ]


EFFICIENTPS = [
    *("--model.network", "EfficientPS", "--model.network.neck.out_channels", 32),
    *("--model.network.semantic_head.channels", 32, "--model.network.instance_head", "SOLOv2Head"),
    *("--model.network.instance_head.num_convs", 1, "--model.network.instance_head.channels", 32),
    *("--model.network.instance_head.kernel_channels", 32, "--model.network.instance_head.mask_hidden", 32),
]


def check(cli):
    """Two steps and a validation; the backbone learns at a tenth of the rate of the rest."""
    assert cli.trainer.global_step == 2
    assert 0 <= float(cli.trainer.callback_metrics["val/PQ"]) <= 1
    losses = column(Path(cli.trainer.log_dir) / "metrics.csv", "train/loss")
    assert len(losses) == 2 and all(0 < loss < float("inf") for loss in losses)
    (optimizer,) = cli.trainer.optimizers
    rates = {group["name"]: group["initial_lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"backbone": 1e-4, "network": 1e-3})
    inside = {id(parameter) for part in cli.model.network.backbones() for parameter in part.parameters()}
    by_name = {group["name"]: {id(parameter) for parameter in group["params"]} for group in optimizer.param_groups}
    assert by_name["backbone"] == inside and not by_name["network"] & inside


def test_backbone_in_15_lines(beside, options):
    assert beside("stranger_backbone.py") <= 15
    cli = run("fit", *options, *EFFICIENTPS, "--model.network.backbone", "stranger_backbone.ConvNeXt")
    check(cli)
    assert type(cli.model.network.backbone).__name__ == "ConvNeXt"


def test_backbone_of_timm_by_its_name(options):
    backbone = ["--model.network.backbone", "TimmBackbone", "--model.network.backbone.name", "test_convnext"]
    cli = run("fit", *options, *EFFICIENTPS, *backbone, "--model.network.backbone.pretrained", "false")
    check(cli)
    assert isinstance(cli.model.network.backbone, TimmBackbone)


def test_backbone_with_other_strides(options, capfd):
    backbone = ["--model.network.backbone", "TimmBackbone", "--model.network.backbone.name", "vit_tiny_patch16_224"]
    sentence = refuse(capfd, "fit", *options, *EFFICIENTPS, *backbone)
    assert "'vit_tiny_patch16_224' has features at the strides (16, 16, 16, 16); a backbone needs" in sentence


def test_family_in_40_lines(beside, options):
    assert beside("stranger_family.py") <= 40
    family = ["--model.network", "stranger_family.Mask2Former"]
    check(run("fit", *options, *family, "--model.network.embed_dim", 12, "--model.network.width", 32))
