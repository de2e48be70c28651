"""Runs that the first edition wrote go on: their checkpoints and configurations are read as they are."""

import lzma
import os
from pathlib import Path

import pytest

from tests.command_line import column, run

pytestmark = pytest.mark.usefixtures("one_thread")

FIXTURES = Path(__file__).parent / "fixtures/first_edition"

LOSS_OF_THE_THIRD_STEP = {"mask_rcnn": 14.868032, "solov2": 98.021309, "detr": 27.942057}

TOLERANCE = 0.2 if os.environ.get("EFFICIENTPS_LOWEST") else 1e-5
"""The oldest OpenCV draws other scenes and the oldest PyTorch other random numbers: losses are similar, not equal."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The scenes that the runs were trained on."""
    from efficientps.synthetic.streets import write_synthetic_cityscapes

    root = tmp_path_factory.mktemp("scenes")
    write_synthetic_cityscapes(root, num_train=4, num_val=2, size=(64, 128), seed=0)
    return root


@pytest.mark.parametrize("family", LOSS_OF_THE_THIRD_STEP)
def test_a_run_validates_and_resumes(family, scenes, tmp_path):
    """Oracle: the loss that the first edition prints for the next step on one thread, to 1e-5."""
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(lzma.decompress((FIXTURES / f"{family}.ckpt.xz").read_bytes()))
    shared = ["--config", FIXTURES / f"{family}.yaml", "--data.root", scenes, "--ckpt_path", checkpoint]
    shared += ["--trainer.default_root_dir", tmp_path / "runs", "--trainer.accelerator", "cpu"]
    validated = run("validate", *shared, "--trainer.limit_val_batches", "1")
    assert 0 <= float(validated.trainer.callback_metrics["val/PQ"]) <= 1
    resumed = run("fit", *shared, "--trainer.max_steps", "3", "--trainer.log_every_n_steps", "1")
    assert resumed.trainer.global_step == 3
    (loss,) = column(Path(resumed.trainer.log_dir) / "metrics.csv", "train/loss")
    assert loss == pytest.approx(LOSS_OF_THE_THIRD_STEP[family], rel=TOLERANCE)
