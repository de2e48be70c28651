"""The instance head that the documentation writes, used as a reader would."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from efficientps.cli.train import main
from tests.instance_head_contract import CHANNELS, CHECKS, NUM_THINGS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def box_head(tmp_path, monkeypatch):
    """The module in the Python block of docs/extend/head.md, importable as ``box_head``."""
    blocks = (ROOT / "docs/extend/head.md").read_text().split("```python\n")[1:]
    source = next(block.partition("```")[0] for block in blocks if "class BoxHead(InstanceHead)" in block)
    (tmp_path / "box_head.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("box_head")
    sys.modules.pop("box_head")


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_contract(box_head, check):
    """Oracle: the contract of the heads that are built in."""

    def make(*, finds):
        torch.manual_seed(0)
        return box_head.BoxHead(NUM_THINGS, CHANNELS, detection_thresh=0.005 if finds else 1.0)

    check(make)


def test_one_line_of_the_configuration(box_head, synthetic_root):
    """Oracle: the class of the head in the network that was trained."""
    options = ["--config", str(ROOT / "configs/demo.yaml"), "--data.root", str(synthetic_root), "--trainer.accelerator"]
    options += ["cpu", "--data.image_size", "[64, 128]", "--trainer.fast_dev_run", "2"]
    cli = main(["fit", *options, "--model.network.instance_head=box_head.BoxHead"])
    assert type(cli.model.network.instance_head) is box_head.BoxHead
    assert cli.trainer.global_step == 2
