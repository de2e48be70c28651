"""The instance head and the commands that the README writes, run as a reader would."""

import importlib
import os
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch

from efficientps.cli import evaluate
from efficientps.cli.train import main
from tests.instance_head_contract import CHANNELS, CHECKS, NUM_THINGS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def box_head(tmp_path, monkeypatch):
    """The module in the README's only Python block, importable as ``box_head``."""
    blocks = (ROOT / "README.md").read_text().split("```python\n")[1:]
    source = next(block.partition("```")[0] for block in blocks if "class BoxHead(InstanceHead)" in block)
    assert len(source.splitlines()) <= 60
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


SHORTER = {
    "prepare_synthetic_yard.py": ["--num-images", "10", "--size", "160"],
    "fit": [
        *("--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1"),
        *("--trainer.log_every_n_steps", "1", "--data.image_size", "[96, 96]"),
    ],
}
"""What makes the commands take seconds."""


def run_command(line):
    """Run one line of the shell in this process; return its exit code."""
    python, program, *words = shlex.split(line)
    assert python == "python"
    if program == "-m":
        assert words.pop(0) == "efficientps.cli.evaluate"
        return evaluate.main(words)
    words += SHORTER.get(Path(program).name, SHORTER.get(words[0], []))
    if program == "train_net.py":
        outcome = main([*words, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"])
        return outcome if isinstance(outcome, int) else 0
    return runpy.run_path(program)["main"](words)


def test_own_images_from_zero(tmp_path, monkeypatch, capsys):
    """Oracle: exit codes; and the same table of classes by validation and by evaluation of the exported predictions."""
    section = (ROOT / "README.md").read_text().partition("## Your own images\n")[2]
    lines = section.partition("```bash\n")[2].partition("```")[0].splitlines()
    assert len(lines) == 7
    (tmp_path / "datasets").mkdir()
    for path in ("train_net.py", "configs", *(f"datasets/{file.name}" for file in (ROOT / "datasets").glob("*.py"))):
        os.symlink(ROOT / path, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        assert run_command(line) == 0, line
    folders = [tmp_path / "runs/demo_yard/version_1/report", tmp_path / "runs/demo_yard/report"]
    tables = [(folder / "report.html").read_text().partition("<h2>All classes</h2>")[2] for folder in folders]
    assert tables[0] == tables[1] and "<td>worker</td>" in tables[0]
    for folder in folders:
        assert (folder / "loss.png").is_file() and (folder / "pq.png").is_file() and list(folder.glob("worst_*.png"))


def test_the_configuration_in_the_readme_is_the_presets():
    """Oracle: the file; the README shows a part of it."""
    text = (ROOT / "README.md").read_text().partition("## Your own images\n")[2]
    block = text.partition("```yaml\n")[2].partition("```")[0]
    preset = (ROOT / "configs/coco_panoptic.yaml").read_text()
    assert block and block in preset
