"""The code blocks of README and docs, and a workspace in which their commands run at tiny size."""

import argparse
import json
import os
import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from efficientps.cli import evaluate
from efficientps.cli import main as command
from efficientps.cli.train import main

ROOT = Path(__file__).parents[1]

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "datasets/README.md", "benchmarks/README.md")),
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not page.relative_to(ROOT / "docs").parts[0][0] == "_"),
]

NOT_RUN = {
    "git clone": "the repository is here already",
    "cd": "enters the clone",
    "python -m venv": "makes an environment",
    "source": "activates an environment",
    "pip install": "installs packages",
    "pre-commit install": "changes the hooks of the repository",
    "bash scripts/test.sh": "runs these tests",
    "bash .ci/run": "runs these tests",
    "bash scripts/gpu_report.sh": "takes minutes; .ci/run runs it",
    "sphinx-build": ".ci/run runs it",
    "torchrun": "needs several GPUs; tests/acceptance/processes.py starts two processes",
    "sbatch": "needs SLURM; tests/test_slurm_train.py runs the script",
}
"""Commands by how they begin, with the reason why they cannot run here."""

PLACEHOLDERS = {
    "GT_JSON": "datasets/yard/val.json",
    "GT_DIR": "datasets/yard/panoptic",
    "PRED_JSON": "datasets/yard/val.json",
    "PRED_DIR": "datasets/yard/panoptic",
}
"""Words of the pages that stand for files of the reader."""

SHORT = {
    "prepare_synthetic.py": "--num-train 4 --num-val 2 --size 128 256 --workers 1",
    "prepare_synthetic_yard.py": "--num-images 10 --size 160",
    "split_panoptic.py": "--overwrite",
    "prepare_cache.py": "--workers 1",
    "grid_coverage.py": "--scale 0.25",
    "draw streets": "--num-train 4 --num-val 2 --size 128 256 --workers 1",
    "draw yards": "--num-images 10 --size 160",
    "split": "--overwrite",
    "cache": "--workers 1",
    "demo": "--num-train 4 --num-val 2",
}
"""Options that make a script or a command take seconds, and write again what another page has had it write."""

FIT = """
    --data.image_size [64,128] --data.batch_size 2 --data.num_workers 0
    --trainer.accelerator cpu --trainer.devices 1 --trainer.num_nodes 1 --trainer.strategy auto
    --trainer.precision 32-true --trainer.max_epochs 1 --trainer.limit_train_batches 1
    --trainer.check_val_every_n_epoch 1 --trainer.num_sanity_val_steps 0 --trainer.log_every_n_steps 1
    --trainer.enable_progress_bar false --trainer.enable_model_summary false
"""
"""One step on two small images and one validation, on a CPU and without weights from the net."""

EFFICIENTPS = "--model.network.neck.out_channels 64"
EFFICIENTNET = "--model.network.backbone.variant b0 --model.network.backbone.pretrained false"
SOLOV2 = """
    --model.network.instance_head.channels 32 --model.network.instance_head.kernel_channels 32
    --model.network.instance_head.mask_hidden 32
"""
DETR = """
    --model.network.backbone.variant resnet10t --model.network.backbone.pretrained false
    --model.network.detector.channels 32 --data.root path/to/cityscapes
    --model.network.detector.feed_forward 32 --model.network.detector.encoder_layers 1
    --model.network.detector.decoder_layers 2 --model.network.detector.num_queries 60
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks():
    """Return all fenced blocks of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```$", text, flags=re.M | re.S):
            indent, language, body = match.groups()
            body = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
            found.append(Block(page, text.count("\n", 0, match.start()) + 1, language.strip(), body))
    return found


def commands(text):
    """Return the commands of a shell block, each as its words."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            found.append(words[: words.index("&&")])
            words = words[words.index("&&") + 1 :]
        found.append(words)
    return [words for words in found if words]


class Workspace:
    """A folder like a clone of the repository with small data in it, in which commands run, each once."""

    def __init__(self, root, streets):
        self.root, self._done = root, set()
        for name in ("train_net.py", "config.yaml", "configs", "scripts", "benchmarks", "tests"):
            os.symlink(ROOT / name, root / name)
        (root / "datasets").mkdir()
        for path in (ROOT / "datasets").glob("*.py"):
            os.symlink(path, root / "datasets" / path.name)
        for tree in ("path/to/cityscapes", "datasets/cityscapes", "datasets/synthetic"):
            shutil.copytree(streets, root / tree)
        for path in (ROOT / "tests/strangers").glob("stranger_*.py"):
            shutil.copy(path, root)
        os.chdir(root)
        for line in ("prepare_synthetic_yard.py --root datasets/yard", "split_panoptic.py datasets/yard/panoptic.json"):
            script, *words = line.split()
            assert self._python(f"datasets/{script}", words) == 0
        shutil.copytree(root / "datasets/yard", root / "datasets/site")
        write_instances(root / "datasets/site")
        write_masks(root / "datasets/masks")
        write_scenes(root / "datasets/scenes")
        (scenes,) = (block for block in blocks() if block.language == "yaml" and "stranger_dataset." in block.text)
        (root / "scenes.yaml").write_text(scenes.text)
        shutil.copy(next((root / "datasets/yard/images").rglob("*.jpg")), root / "photo.jpg")

    def run(self, words):
        """Run one command in this process, at tiny size; raise an error unless it succeeds or is listed as not run."""
        line = shlex.join(words)
        if line in self._done or any(line.startswith(begin) for begin in NOT_RUN):
            return
        self._done.add(line)
        if words[0] == "export" or re.fullmatch(r"\w+=.*", words[0]):
            return
        if words[0] == "bash":
            for inner in commands((self.root / words[1]).read_text()):
                if inner[0] == "python":
                    self.run([word for word in inner if word != "$@"])
            return
        for run in re.findall(r"runs/(\w+)/version_0", line):
            self._make_run(run)
        if words[:3] == ["python", "-m", "efficientps"]:
            words = words[2:]
        if words[0] == "efficientps":
            code = self._command([PLACEHOLDERS.get(word, word) for word in words[1:]])
            assert code == 0, f"{line} ends with exit code {code}"
            return
        assert words[0] == "python", f"{line} is neither run nor listed"
        code = self._python(words[1], [PLACEHOLDERS.get(word, word) for word in words[2:]])
        assert code == 0, f"{line} ends with exit code {code}"

    def _python(self, program, words):
        if program == "-m":
            assert words.pop(0) == "efficientps.cli.evaluate"
            return evaluate.main(words)
        if program == "train_net.py":
            outcome = main([*words, *self._tiny(words)])
            return outcome if isinstance(outcome, int) else 0
        if program == "scripts/benchmark.py":  # tests/benchmarks measures at tiny size
            parser = runpy.run_path(program)["_parser"]()
            return 0 if isinstance(parser.parse_args(words), argparse.Namespace) else 1
        if program == "datasets/from_coco_instances.py":  # it does not write over what an earlier block has made
            shutil.rmtree(self.root / "datasets/site/panoptic", ignore_errors=True)
            (self.root / "datasets/site/panoptic.json").unlink(missing_ok=True)
        return runpy.run_path(program)["main"]([*words, *shlex.split(SHORT.get(Path(program).name, ""))])

    def _command(self, words):
        """Run a command of ``efficientps``."""
        if words == ["--help"]:
            return command.main(words)
        short = SHORT.get(words[0], SHORT.get(" ".join(words[:2]), ""))
        tiny = self._tiny(["fit", "--config", "demo", *words[1:]]) if words[0] == "demo" else self._tiny(words)
        return command.main([*words, *shlex.split(short), *tiny])

    def _tiny(self, words):
        """Return the options that make a command of train_net.py tiny; a run's own configuration has them already."""
        if words[0] != "fit" or "--help" in words or "--data.help" in words:
            return []
        config = words[words.index("--config") + 1] if "--config" in words else "config.yaml"
        for weights in re.findall(r"\S+\.pth", shlex.join(words)):
            self._make_run("detr_panoptic_detector")
            shutil.copy(self.root / "runs/detr_panoptic_detector/version_0/checkpoints/last.ckpt", weights)
        if "detr" in config:
            return shlex.split(FIT + DETR)
        line = f"{config} {shlex.join(words)}"
        parts = [EFFICIENTPS, SOLOV2 if "solov2" in line.lower() else ""]
        parts.append("--model.network.backbone.pretrained false" if "TimmBackbone" in line else "")
        parts.append("" if "--model.network.backbone " in line else EFFICIENTNET)
        other = "BoxHead" in line or "stranger_" in line or "--model.network.backbone " in line
        parts.append("--trainer.default_root_dir runs/other" if other else "")
        return shlex.split(" ".join([FIT, *parts]))

    def _make_run(self, name):
        """Train the run that a command takes its checkpoint from, unless it is there."""
        if (self.root / f"runs/{name}/version_0").is_dir():
            return
        config = "config.yaml" if name == "cityscapes" else f"configs/{name}.yaml"
        words = shlex.split(f"fit --config {config} --model.init_from null")
        assert not isinstance(main([*words, *self._tiny(words)]), int)


def write_masks(folder):
    """Write two images with maps of classes and of instance numbers, and the table of their classes."""
    maps = {"images": [[0] * 4] * 2, "semantic": [[7, 26, 26, 255], [7, 7, 26, 26]], "instances": [[0, 1, 2, 0]] * 2}
    for name, pixels in maps.items():
        (folder / name).mkdir(parents=True)
        for image in ("a.png", "b.png"):
            Image.fromarray(np.array(pixels, dtype=np.uint8)).save(folder / name / image)
    (folder / "classes.csv").write_text("id,name,isthing\n7,road,0\n26,car,1\n")


def write_instances(folder):
    """Write ``instances.json`` and semantic maps with their classes into a folder in the COCO panoptic format."""
    document = json.loads((folder / "panoptic.json").read_text())
    things = {category["id"] for category in document["categories"] if category["isthing"]}
    stuff = [category for category in document["categories"] if category["id"] not in things]
    files = {image["id"]: image["file_name"] for image in document["images"]}
    instances = []
    for entry in document["annotations"]:
        rgb = np.asarray(Image.open(folder / "panoptic" / entry["file_name"]).convert("RGB"), dtype=np.int64)
        ids, semantic = rgb @ [1, 256, 65536], np.zeros(rgb.shape[:2], dtype=np.uint8)
        for segment in entry["segments_info"]:
            if segment["category_id"] not in things:
                semantic[ids == segment["id"]] = segment["category_id"]
                continue
            column_wise = (ids == segment["id"]).T.ravel()
            changes = [0, *(np.flatnonzero(np.diff(column_wise, prepend=False))), column_wise.size]
            instances.append(
                {
                    "id": len(instances) + 1,
                    "image_id": entry["image_id"],
                    "category_id": segment["category_id"],
                    "iscrowd": segment.get("iscrowd", 0),
                    "segmentation": {"size": list(ids.shape), "counts": [int(count) for count in np.diff(changes)]},
                }
            )
        path = (folder / "semantic" / files[entry["image_id"]]).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(semantic).save(path)
    categories = [{"id": c["id"], "name": c["name"]} for c in document["categories"] if c["id"] in things]
    content = {"images": document["images"], "annotations": instances, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "stuff.json").write_text(json.dumps({"categories": stuff}))
    (folder / "panoptic.json").unlink()
    shutil.rmtree(folder / "panoptic")


def write_scenes(folder):
    """Write a data set of ``stranger_dataset.py``, with one ball in each image: one batch to train, one to validate."""
    folder.mkdir()
    image, ids = np.zeros((64, 128, 3), dtype=np.uint8), np.ones((64, 128), dtype=np.int32)
    ids[8:24, 8:24] = 2
    for split, number in (("train", 3), ("val", 1)):
        names = [f"{split}_{index}" for index in range(number)]
        for name in names:
            np.savez(folder / f"{name}.npz", image=image, segment_ids=ids)
        (folder / f"{split}.json").write_text(json.dumps({name: [[1, 1], [2, 2]] for name in names}))
