"""A wheel that is built and installed into a folder of its own, without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import efficientps
from tests.command_line import run
from tests.documentation import blocks

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FILES = ("setup.py", "requirements.txt", "README.md", "LICENSE", "config.yaml")
FOLDERS = ("configs", "efficientps", "tests", "benchmarks")
TINY = """
    --config demo --seed_everything 1 --data.image_size [64,128] --trainer.max_steps 1 --trainer.limit_val_batches 1
    --trainer.accelerator cpu --trainer.default_root_dir runs --trainer.enable_progress_bar false
"""
NO_NETWORK = """
import socket

def refuse(*arguments, **options):
    with open({path!r}, "a") as file:
        file.write(f"{{arguments}}\\n")
    raise OSError("there is no network")

class Local(socket.socket):
    def connect(self, address):
        return super().connect(address) if self.family == socket.AF_UNIX else refuse(address)

    connect_ex = connect

socket.socket, socket.getaddrinfo, socket.gethostbyname = Local, refuse, refuse
"""
THREE_LINES = """
import efficientps
predictor = efficientps.load("last.ckpt", device="cpu")
result = predictor({image!r})
result.overlay().save("overlay.png")
"""
AND_WHAT_THEY_GAVE = """
import json, torch
torch.save(result.segment_ids, "ids.pt")
json.dump([[item.id, item.name, item.score, item.box] for item in result.segments], open("segments.json", "w"))
"""
EFFICIENTPS = {
    "backbone": {"variant": "b0", "pretrained": False},
    "neck": {"out_channels": 32},
    "semantic_head": {"channels": 16},
    "min_stuff_area": 50,
}
NETWORKS = {
    "mask_rcnn": EFFICIENTPS
    | {
        "instance_head": {
            "class_path": "MaskRCNNHead",
            "init_args": {"box_hidden": 32, "mask_channels": 16, "score_thresh": 0.0, "rpn_proposals_test": 50},
        }
    },
    "solov2": EFFICIENTPS
    | {
        "instance_head": {
            "class_path": "SOLOv2Head",
            "init_args": {"num_convs": 1, "channels": 32, "kernel_channels": 32, "mask_hidden": 32}
            | dict.fromkeys(["detection_thresh", "update_thresh", "score_thresh"], 0.0),
        }
    },
    "detr": {
        "class_path": "DETRPanoptic",
        "init_args": {
            "backbone": {"class_path": "ResNetBackbone", "init_args": {"variant": "resnet10t", "pretrained": False}},
            "detector": {"num_queries": 30, "channels": 32, "feed_forward": 32, "encoder_layers": 1},
            "step": "joint",
            "score_thresh": 0.0,
        },
    },
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build from a copy of the sources, because a build leaves files in its folder."""
    folder = tmp_path_factory.mktemp("sources")
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheels", "."]
    subprocess.run([sys.executable, "-m", "pip", *words], cwd=folder, check=True)
    return next((folder / "wheels").glob("efficientps-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the programs of a new environment: it has the wheel and, by a path, this environment's requirements.

    Whatever asks for a network address there fails, and is written down in the file ``asked``.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    words = ["--python", str(folder), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    requirements = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "a_network_that_is_gone.py").write_text(NO_NETWORK.format(path=str(folder / "asked")))
    (packages / "requirements.pth").write_text("\n".join(["import a_network_that_is_gone", *requirements]))
    programs = folder / "bin"
    where = start(folder, programs / "python", "-c", "import efficientps; print(efficientps.__file__)")
    assert where.stdout.strip() == str(packages / "efficientps/__init__.py")
    asked = start(folder, programs / "python", "-c", "import socket; socket.create_connection(('example.org', 80))")
    assert "there is no network" in asked.stderr
    (folder / "asked").unlink()
    yield programs
    assert not (folder / "asked").exists(), (folder / "asked").read_text()


def start(folder, *words):
    """Run a program in a folder, in an environment that knows nothing of the checkout."""
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(word) for word in words]
    return subprocess.run(words, cwd=folder, env=known | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def command(installed):
    """A function that runs the installed command in a folder."""
    return lambda folder, *arguments: start(folder, installed / "efficientps", *arguments)


def test_the_wheel_holds_package_and_presets(wheel):
    """Oracle: the files of the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "efficientps").rglob("*.py")}
    configurations = {
        f"efficientps/presets/{path.name}" for path in [ROOT / "config.yaml", *ROOT.glob("configs/*.yaml")]
    }
    assert names == modules | configurations | {"efficientps/py.typed"}


@pytest.mark.parametrize("words", [["--help"], ["evaluate", "--help"], ["fit", "--help"]], ids=" ".join)
def test_the_help_is_that_of_the_installed_command(command, tmp_path, words):
    done = command(tmp_path, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: efficientps ")


def test_data_training_and_evaluation_in_an_empty_folder(command, tmp_path):
    """Oracle: exit codes, the files of the run, and predictions that are compared with themselves."""
    done = command(tmp_path, "draw", "yards", "--root", "yard", "--num-images", "4", "--size", "160")
    assert done.returncode == 0, done.stderr
    place = ["--images", "yard/images", "--annotations", "yard/panoptic.json"]
    done = command(tmp_path, "check", *place)
    assert done.returncode == 0, done.stderr
    assert "4 images in " in done.stdout
    same = ["yard/panoptic.json", "yard/panoptic"] * 2
    done = command(tmp_path, "evaluate", *same, "--json", "quality.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "quality.json").read_text())["All"]["pq"] == 1
    scenes = ["draw", "streets", "--num-train", "2", "--num-val", "1", "--size", "128", "256", "--workers", "1"]
    assert command(tmp_path, *scenes).returncode == 0
    done = command(tmp_path, "fit", *TINY.split())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/version_0/checkpoints/last.ckpt").is_file()
    done = command(tmp_path, "predict", "--ckpt_path", "last", "--predictions.output_dir", "predictions")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "predictions/panoptic").glob("*.png"))) == 1


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A folder with a JPEG of 333x517 pixels that shows something."""
    folder = tmp_path_factory.mktemp("photographs")
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    coarse.resize((517, 333), Image.Resampling.BICUBIC).save(folder / "street.jpg")
    return folder / "street.jpg"


def test_checks_in_an_empty_folder(command, tmp_path):
    """Oracle: the exit code; the packages of this environment are within the bounds that the wheel's metadata holds."""
    done = command(tmp_path, "checks")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("Ready: ")
    assert not any(tmp_path.iterdir())


def test_the_program_of_the_docs(installed, photograph, tmp_path):
    """Oracle: the exit code and the size of the image; the program runs as it stands, beside the image it names."""
    (block,) = [block for block in blocks() if block.language == "python" and "save_checkpoint" in block.text]
    shutil.copy(photograph, tmp_path / "street.jpg")
    (tmp_path / "program.py").write_text(block.text)
    done = start(tmp_path, installed / "python", "program.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("PanopticResult('street', 333x517 pixels, ")


@pytest.mark.parametrize("family", NETWORKS)
def test_a_lonely_checkpoint_predicts_as_in_the_checkout(
    family, installed, command, photograph, synthetic_root, tmp_path
):
    """Oracle: the checkout that trained the network, bit by bit; the folder has no other file, and no network."""
    config = {"model": {"network": NETWORKS[family]}, "data": {"root": str(synthetic_root), "image_size": [64, 128]}}
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(config))
    runs = ["--trainer.accelerator", "cpu", "--trainer.default_root_dir", tmp_path / "runs"]
    length = ["--trainer.max_steps", 2, "--trainer.limit_val_batches", 0, "--data.num_workers", 0]
    trained = run("fit", "--config", tmp_path / "training.yaml", *runs, *length)
    (tmp_path / "alone").mkdir()
    alone = Path(shutil.move(f"{trained.trainer.log_dir}/checkpoints/last.ckpt", tmp_path / "alone"))
    expected = efficientps.load(alone, device="cpu")(photograph)
    options = ["--data.predict_path", photograph.parent, "--predictions.output_dir"]
    run("predict", "--ckpt_path", alone, *options, tmp_path / "checkout", *runs)

    code = THREE_LINES.format(image=str(photograph)) + AND_WHAT_THEY_GAVE
    done = start(alone.parent, installed / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    done = command(alone.parent, "predict", "--ckpt_path", "last.ckpt", *options, "predictions")
    assert done.returncode == 0, done.stderr

    assert expected.segment_ids.shape == (333, 517)
    assert torch.equal(torch.load(alone.parent / "ids.pt"), expected.segment_ids)
    segments = json.loads((alone.parent / "segments.json").read_text())
    assert segments == [[item.id, item.name, item.score, list(item.box)] for item in expected.segments]
    assert len(segments) > 2 and any(item.is_thing for item in expected.segments)
    assert np.array_equal(Image.open(alone.parent / "overlay.png"), expected.overlay())
    maps = [folder / "panoptic/street_panoptic.png" for folder in (alone.parent / "predictions", tmp_path / "checkout")]
    assert maps[0].read_bytes() == maps[1].read_bytes()
    written = np.asarray(Image.open(maps[0])).astype(np.int64) @ [1, 256, 65536]
    ids = expected.segment_ids.numpy()
    pairs = set(zip(written.ravel().tolist(), ids.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(ids)) == len(np.unique(written))
