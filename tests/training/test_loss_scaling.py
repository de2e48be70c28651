"""Half precision with loss scaling; on a CPU the scaler is given by hand, since the trainer takes bfloat16 there."""

import json
import math

import pytest
import torch
import yaml

from efficientps.cli.arguments import DEFAULT_CONFIG
from efficientps.training.checkpoints.read import read_checkpoint
from tests.command_line import column, run, write_config
from tests.training.callbacks.test_non_finite import poison
from tests.training.checkpoints.test_last import OPTIONS, Interrupted, ends_alike, interrupt

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


def test_the_scale_survives_a_resume(config, tmp_path):
    """Oracle: the run that nobody interrupted; a scale that began anew would overflow once more."""
    options = ["--config", config, *OPTIONS]
    run("fit", *options, "--trainer.default_root_dir", tmp_path / "whole")
    for step in (2, 5, 12):
        folder = ["--trainer.default_root_dir", tmp_path / f"runs_{step}"]
        with pytest.raises(Interrupted):
            run("fit", *options, *folder, *interrupt("on_train_batch_start", step))
        run("fit", *options, *folder, "--ckpt_path", "last")
        ends_alike(tmp_path / "whole", tmp_path / f"runs_{step}")
        state = scaler_state(tmp_path / f"runs_{step}")
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


FUSED = ["--model.optimizer", "AdamW", "--model.optimizer.lr", 1e-2, "--trainer.gradient_clip_val", 0.1]
"""Options of an optimizer that can be fused, and of clipping."""


def test_a_fused_optimizer_that_clips_resumes_exactly(config, tmp_path, recwarn):
    """Oracle: the run that nobody interrupted, weights, optimizer, schedule and scale; the first steps overflow."""
    options = ["--config", config, *OPTIONS, *FUSED, "--model.optimizer.fused", "true"]
    run("fit", *options, "--trainer.default_root_dir", tmp_path / "whole")
    with pytest.raises(Interrupted):
        run("fit", *options, *interrupt("on_train_batch_start", 2))
    run("fit", *options, "--ckpt_path", "last")
    ends_alike(tmp_path / "whole", tmp_path / "runs")
    assert scaler_state(tmp_path / "runs") == scaler_state(tmp_path / "whole")
    assert scaler_state(tmp_path / "runs")["scale"] < INITIAL_SCALE
    assert not [warning for warning in recwarn if "lr_scheduler.step" in str(warning.message)]


def test_steps_that_overflow_count_in_the_schedule(config, tmp_path):
    """Oracle: the learning rates of a run in full precision, in which nothing overflows."""
    run("fit", "--config", config, *OPTIONS, "--trainer.max_steps", 8)
    scaled = column(tmp_path / "runs/version_0/metrics.csv", "train/lr")
    plain = ["--trainer.plugins", "[]", "--trainer.precision", "32-true", "--trainer.max_steps", 8]
    run("fit", "--config", config, *OPTIONS, *plain)
    expected = column(tmp_path / "runs/version_1/metrics.csv", "train/lr")
    assert scaled[:7] == expected[:7] and len(set(scaled[:5])) == 5


@pytest.mark.parametrize("changed", ["true", "false"])
def test_fusing_may_change_on_resume(config, tmp_path, changed):
    """Oracle: the run that never changed it; both kinds of step agree but for rounding."""
    options = ["--config", config, *OPTIONS, *FUSED]
    before = "false" if changed == "true" else "true"
    root = ["--trainer.default_root_dir", tmp_path / "whole"]
    whole = run("fit", *options, *root, "--model.optimizer.fused", before)
    run("fit", *options, "--model.optimizer.fused", before, "--trainer.max_epochs", 1)
    resumed = run("fit", *options, "--model.optimizer.fused", changed, "--ckpt_path", "last")
    assert resumed.trainer.global_step == 21
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value)


def test_a_fused_optimizer_leaves_out_a_loss_that_is_not_finite(config):
    """Oracle: contract; its gradients are taken away between backward pass and step, and the run goes on."""
    options = [*OPTIONS, *FUSED, "--model.optimizer.fused", "true"]
    with pytest.warns(UserWarning, match="was left out, number 1: it has loss_weight that is not finite"):
        trained = run("fit", "--config", config, *options, *poison("loss", 9, 9))
    assert trained.trainer.global_step == 21
    assert all(torch.isfinite(p).all() for p in trained.model.parameters())


DEMO = [
    *(
        "--config",
        DEFAULT_CONFIG.parent / "configs/demo.yaml",
        "--data.image_size",
        "[64, 128]",
        "--trainer.max_steps",
        2,
    ),
    *("--trainer.limit_val_batches", 1, "--trainer.enable_progress_bar", "false", "--overlays.num_images", 0),
]


def test_the_demo_runs_as_it_is(synthetic_root, tmp_path):
    """Oracle: contract; its optimizer is fused and its gradients are clipped."""
    scaler = {"class_path": "torch.amp.GradScaler", "init_args": {"device": "cpu"}}
    plugin = {"class_path": "MixedPrecision", "init_args": {"precision": "16-mixed", "device": "cpu", "scaler": scaler}}
    options = [*DEMO, "--data.root", synthetic_root, "--trainer.plugins", json.dumps([plugin])]
    trained = run("fit", *options, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", tmp_path)
    assert trained.trainer.global_step == 2
    assert trained.trainer.optimizers[0].defaults["fused"]
    assert torch.isfinite(trained.trainer.callback_metrics["train/loss"])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_the_demo_runs_as_it_is_on_a_card(synthetic_root, tmp_path, precision):
    """Oracle: contract; Lightning's own precision on CUDA."""
    options = [*DEMO, "--data.root", synthetic_root, "--trainer.precision", precision]
    trained = run("fit", *options, "--trainer.accelerator", "gpu", "--trainer.default_root_dir", tmp_path)
    assert trained.trainer.global_step == 2
    assert torch.isfinite(trained.trainer.callback_metrics["train/loss"])


@pytest.mark.gpu
@pytest.mark.parametrize("fused", ["true", "false"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_on_a_card(cityscapes_root, tmp_path, fused, algorithm):
    """Oracle: contract; Lightning's own scaler and float16 on CUDA, as ``--trainer.precision 16-mixed`` has them."""
    options = ["--config", write_config(tmp_path, cityscapes_root), *OPTIONS, *FUSED, "--model.optimizer.fused", fused]
    options += ["--trainer.accelerator", "gpu", "--trainer.precision", "16-mixed"]
    trained = run("fit", *options, "--trainer.gradient_clip_algorithm", algorithm)
    assert trained.trainer.global_step == 21
    assert all(torch.isfinite(p).all() for p in trained.model.parameters())
    assert scaler_state(tmp_path / "runs")["scale"] >= 1
