"""A wheel that is built and installed into a folder of its own, without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FILES = ("setup.py", "requirements.txt", "README.md", "LICENSE", "config.yaml")
FOLDERS = ("configs", "efficientps", "tests", "benchmarks")
TINY = """
    --config demo --seed_everything 1 --data.image_size [64,128] --trainer.max_steps 1 --trainer.limit_val_batches 1
    --trainer.accelerator cpu --trainer.default_root_dir runs --trainer.enable_progress_bar false
"""


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
def command(wheel, tmp_path_factory):
    """A function that runs the installed command in a folder, with nothing but the wheel's content in its path."""
    target = tmp_path_factory.mktemp("installed")
    words = ["install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    environment = os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}

    def run(folder, *arguments):
        return subprocess.run(
            [sys.executable, str(target / "bin/efficientps"), *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    code = "import efficientps; print(efficientps.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=target, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(target / "efficientps/__init__.py")
    return run


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
def test_help(command, tmp_path, words):
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
    checkpoint = "runs/version_0/checkpoints/last.ckpt"
    done = command(tmp_path, "predict", "--ckpt_path", checkpoint, "--predictions.output_dir", "predictions")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "predictions/panoptic").glob("*.png"))) == 1
