"""README and docs: every command and snippet runs, at tiny size, and every link leads somewhere."""

import ast
import os
import re
import runpy
import shutil
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from PIL import Image

from benchmarks import presets  # noqa: F401 - a snippet of benchmarks/README.md imports the package
from efficientps import EfficientPS, PanopticModule
from efficientps.backbones import EfficientNetBackbone
from efficientps.cli.train import main
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.networks.efficientps import MaskRCNNHead
from efficientps.structures import ImageBatch
from tests.documentation import NOT_RUN, PAGES, ROOT, Workspace, blocks, commands
from tests.tiny_network import TinyNetwork

BLOCKS = blocks()


def of_language(language):
    found = [block for block in BLOCKS if block.language == language]
    assert found
    return pytest.mark.parametrize("block", found, ids=str)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, synthetic_root):
    folder = Path.cwd()
    yield Workspace(tmp_path_factory.mktemp("workspace"), synthetic_root)
    os.chdir(folder)


@of_language("bash")
def test_commands_run(block, workspace, monkeypatch):
    """Oracle: exit codes. A command must run or be listed in NOT_RUN, which also says why."""
    monkeypatch.chdir(workspace.root)
    monkeypatch.syspath_prepend(workspace.root)
    for words in commands(block.text):
        workspace.run(words)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of a small network that has not been trained."""
    path = tmp_path_factory.mktemp("trained") / "last.ckpt"
    backbone = EfficientNetBackbone(variant="b0", pretrained=False)
    network = partial(EfficientPS, backbone=backbone, instance_head=MaskRCNNHead)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False)
    trainer.strategy.connect(PanopticModule(network=network, categories=CITYSCAPES_CATEGORIES))
    trainer.save_checkpoint(path)
    return path


@of_language("python")
def test_snippets_run(block, tmp_path, monkeypatch, checkpoint):
    """Oracle: Python; a snippet may use a network, a batch, images and the checkpoint of a run without making them."""
    monkeypatch.chdir(tmp_path)
    for path in ("street.jpg", "photos/a.jpg", "photos/b.jpg"):
        Path(path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (150, 90), (90, 60, 30)).save(path)
    for path in re.findall(r"runs/\S+\.ckpt", block.text):
        Path(path).parent.mkdir(parents=True)
        shutil.copy(checkpoint, path)
    images = torch.zeros(1, 3, 32, 64, dtype=torch.uint8)
    batch = ImageBatch(images=images, image_sizes=[(32, 64)])
    names = {"__name__": "snippet", "network": TinyNetwork(3, 2).eval(), "batch": batch}
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        exec(compile(block.text, str(block), "exec"), names)
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions


def test_training_from_python_takes_ten_lines():
    """Oracle: Python's parser; the test above runs the program, and tests/cli/test_wheel.py as a file of its own."""
    (block,) = [block for block in BLOCKS if block.language == "python" and "save_checkpoint" in block.text]
    lines = [type(line).__name__ for line in ast.parse(block.text).body]
    assert len([name for name in lines if not name.startswith("Import")]) == 10


@of_language("yaml")
def test_configurations_are_read(block, tmp_path, monkeypatch):
    """Oracle: the parser, which refuses unknown keys and wrong types."""
    path = tmp_path / "block.yaml"
    path.write_text(block.text)
    base = "coco_panoptic" if "CocoPanopticDataModule" in block.text else "demo"
    whole = "default_root_dir" in block.text  # the others are parts of a configuration
    options = [*([] if whole else ["--config", str(ROOT / f"configs/{base}.yaml")]), "--config", str(path)]
    monkeypatch.syspath_prepend(ROOT / "tests/strangers")
    assert main(["fit", *options, "--print_config"]) == 0


def test_blocks_say_their_language():
    """Oracle: none of the tests above would see a block without one."""
    known = {"bash", "python", "yaml", "json", "text"}
    strange = [str(block) for block in BLOCKS if block.language not in known and not block.language.startswith("{")]
    assert not strange


def test_the_list_of_what_is_not_run_is_needed():
    """Oracle: each entry of the list is the beginning of a command of the pages."""
    lines = [" ".join(words) for block in BLOCKS if block.language == "bash" for words in commands(block.text)]
    assert [begin for begin in NOT_RUN if not any(line.startswith(begin) for line in lines)] == []


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    for included in re.findall(r"^```\{include\} (\S+)", page.read_text(), flags=re.M):
        if (path := (page.parent / included).resolve()).is_file():
            words += anchors(path)
    return words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Oracle: the files and the headings that are there."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link} names no heading"


def test_files_named_in_the_text_are_there():
    """Oracle: the files of the repository."""
    for page in PAGES:
        for path in re.findall(
            r"`((?:configs|scripts|tests|datasets|docs)/[\w/]+\.(?:py|sh|yaml|md))`", page.read_text()
        ):
            assert (ROOT / path).is_file(), f"{page.name} names {path}"


def keys(tree, prefix=""):
    """Yield the keys of a configuration as the command line has them, without those of other packages' classes."""
    for key, value in tree.items():
        inner = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        if key == "class_path" or inner.startswith("model.optimizer."):
            continue
        if isinstance(value, dict) and not inner.startswith("data.init_args"):
            yield from keys(value, inner)
        else:
            yield inner


def test_the_reference_has_every_key():
    """Oracle: the keys of all configurations of the repository."""
    reference = runpy.run_path(str(ROOT / "docs/configuration_reference.py"))["page"]()
    for path in [ROOT / "config.yaml", *(ROOT / "configs").glob("*.yaml")]:
        missing = {key for key in keys(yaml.safe_load(path.read_text())) if f"`{key}`" not in reference}
        assert not missing, path.name


def test_the_readme_is_short():
    """Oracle: the limit that the project sets itself; what is longer belongs into docs."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_configuration_of_own_data_is_the_presets():
    """Oracle: the file, of which the page shows a part."""
    block = next(block for block in BLOCKS if block.page.name == "own_data.md" and block.language == "yaml")
    assert block.text in (ROOT / "configs/coco_panoptic.yaml").read_text()


def test_two_ways_to_the_same_table(workspace, monkeypatch):
    """Oracle: validation and evaluation of the exported predictions print the same classes with the same figures."""
    monkeypatch.chdir(workspace.root)
    block = next(
        block for block in BLOCKS if "prepare_synthetic_yard" in block.text and block.page.name == "get_started.md"
    )
    for words in commands(block.text):
        workspace.run(words)
    pages = [workspace.root / "runs/demo_yard" / folder / "report/report.html" for folder in ("version_1", ".")]
    tables = [page.read_text().partition("<h2>All classes</h2>")[2] for page in pages]
    assert tables[0] == tables[1]
    assert "<td><bdi>worker</bdi></td>" in tables[0]
