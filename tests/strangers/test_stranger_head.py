"""The instance head that docs/extend/head.md shows, used as a reader would."""

from pathlib import Path

import pytest
import torch

from tests.command_line import run
from tests.instance_head_contract import CHANNELS, CHECKS, NUM_THINGS
from tests.strangers.stranger_head import BoxHead

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def box_head(*, finds):
    torch.manual_seed(0)
    return BoxHead(NUM_THINGS, CHANNELS, detection_thresh=0.005 if finds else 1.0)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_contract(check):
    """Oracle: the contract of the heads that are built in."""
    check(box_head)


def test_one_line_chooses_it(synthetic_root, monkeypatch):
    """Oracle: the class of the head in the network that was trained."""
    monkeypatch.syspath_prepend(HERE)
    options = ["--config", ROOT / "configs/demo.yaml", "--data.root", synthetic_root, "--trainer.accelerator", "cpu"]
    options += [
        "--data.image_size",
        "[64, 128]",
        "--trainer.fast_dev_run",
        "2",
        "--trainer.enable_progress_bar",
        "false",
    ]
    cli = run("fit", *options, "--model.network.instance_head=stranger_head.BoxHead")
    head = type(cli.model.network.instance_head)
    assert (head.__module__, head.__qualname__) == ("stranger_head", "BoxHead")
    assert cli.trainer.global_step == 2


def test_the_page_shows_the_file():
    """Oracle: the path that the page includes."""
    page = ROOT / "docs/extend/head.md"
    (included,) = [line for line in page.read_text().splitlines() if line.startswith("```{literalinclude}")]
    assert (page.parent / included.split()[1]).resolve() == HERE / "stranger_head.py"
