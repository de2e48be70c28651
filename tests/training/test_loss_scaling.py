"""Half precision with loss scaling; on a CPU the scaler is given by hand, since the trainer takes bfloat16 there."""

import math

import pytest
import torch
import yaml

from efficientps.training.checkpoint import read_checkpoint
from tests.command_line import column, run, write_config
from tests.training.test_last_checkpoint import OPTIONS, Interrupted, ends_alike, interrupt
from tests.training.test_non_finite import poison

INITIAL_SCALE = 2.0**60
"""So high that the first steps overflow, whatever their gradients."""


@pytest.fixture
def config(cityscapes_root, tmp_path):
    path = write_config(tmp_path, cityscapes_root)
    content = yaml.safe_load(path.read_text())
    scaler = {"device": "cpu", "init_scale": INITIAL_SCALE, "backoff_factor": 2.0**-15, "growth_interval": 3}
    plugin = {"precision": "16-mixed", "device": "cpu", "scaler": {"class_path": "torch.amp.GradScaler"}}
    plugin["scaler"]["init_args"] = scaler
    content["trainer"]["plugins"] = [{"class_path": "MixedPrecision", "init_args": plugin}]
    path.write_text(yaml.safe_dump(content))
    return path


def scaler_state(folder):
    newest = max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    return read_checkpoint(newest)["MixedPrecision"]


@pytest.mark.parametrize("step", [2, 5, 12])
def test_the_scale_survives_a_resume(config, tmp_path, step):
    """Oracle: the run that nobody interrupted; a scale that began anew would overflow once more."""
    options = ["--config", config, *OPTIONS]
    run("fit", *options, "--trainer.default_root_dir", tmp_path / "whole")
    with pytest.raises(Interrupted):
        run("fit", *options, *interrupt("on_train_batch_start", step))
    run("fit", *options, "--ckpt_path", "last")
    ends_alike(tmp_path / "whole", tmp_path / "runs")
    state = scaler_state(tmp_path / "runs")
    assert state == scaler_state(tmp_path / "whole")
    # It has been lowered until nothing overflowed, and has grown again since.
    growths = math.log2(state["scale"] / INITIAL_SCALE) % 15
    assert state["scale"] < INITIAL_SCALE
    assert 0 < growths < 15


def test_an_overflow_is_no_fault(config, recwarn, tmp_path):
    """Oracle: contract; the guard leaves gradients that overflow to the loss scale, and the run goes on."""
    trained = run("fit", "--config", config, *OPTIONS, "--non_finite.max_skipped", 0)
    assert trained.trainer.global_step == 21
    assert not [warning for warning in recwarn if "left out" in str(warning.message)]
    assert all(torch.isfinite(p).all() for p in trained.model.parameters())
    assert all(math.isfinite(loss) for loss in column(tmp_path / "runs/version_0/metrics.csv", "train/loss"))


def test_a_loss_that_is_not_finite_is_a_fault(config):
    """Oracle: contract; the step is left out, and named, as in full precision."""
    with pytest.warns(UserWarning, match="was left out, number 1: it has loss_weight that is not finite"):
        run("fit", "--config", config, *OPTIONS, *poison("loss", 9, 9))
