"""Lightning's exponential moving average of the weights, with this project's checkpoints and resuming."""

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from efficientps.training.checkpoints.last import PREEMPTED_EXIT_CODE
from efficientps.training.checkpoints.read import read_checkpoint
from tests.acceptance.kills import difference
from tests.command_line import run, write_config
from tests.training.checkpoints.test_last import OPTIONS, interrupt

DECAY = 0.8
AVERAGING = ["--trainer.callbacks+=EMAWeightAveraging", f"--trainer.callbacks.decay={DECAY}"]


@pytest.fixture
def config(cityscapes_root, tmp_path):
    return write_config(tmp_path, cityscapes_root)


class Diary(Callback):
    """Writes down the weights after every step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        states.append({name: value.clone() for name, value in pl_module.state_dict().items()})


states = []


def newest(folder):
    return read_checkpoint(max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime))


def test_average_is_validated_and_saved(config, tmp_path):
    """Oracle: the average by hand, of the weights that a run without averaging has after each step."""
    states.clear()
    run("fit", "--config", config, *OPTIONS, "--trainer.callbacks+=tests.training.test_weight_averaging.Diary")
    plain = newest(tmp_path / "runs")["state_dict"]
    average = {name: value.clone() for name, value in states[0].items()}
    for state in states[1:]:
        for name, value in state.items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - DECAY)
    cli = run("fit", "--config", config, *OPTIONS, *AVERAGING, "--trainer.default_root_dir", tmp_path / "averaged")
    saved = newest(tmp_path / "averaged")
    for name, value in plain.items():
        assert torch.equal(saved["current_model_state"][name], value)
        if value.is_floating_point():
            torch.testing.assert_close(saved["state_dict"][name], average[name])
    # What was validated last is what the checkpoint validates to.
    again = run(
        "validate", "--config", config, "--ckpt_path", "last", "--trainer.default_root_dir", tmp_path / "averaged"
    )
    for name in ("val/PQ", "val/mIoU"):
        assert again.trainer.callback_metrics[name] == cli.trainer.callback_metrics[name]


def test_an_averaged_run_goes_on_exactly(config, tmp_path):
    """Oracle: the run that nobody interrupted."""
    options = ["--config", config, *OPTIONS]
    run("fit", *options, *AVERAGING, "--trainer.default_root_dir", tmp_path / "whole")
    assert run("fit", *options, *interrupt("on_train_batch_start", 9, "term"), *AVERAGING) == PREEMPTED_EXIT_CODE
    run("fit", *options, *AVERAGING, "--ckpt_path", "last")
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
    whole, resumed = newest(tmp_path / "whole"), newest(tmp_path / "runs")
    assert difference({key: whole[key] for key in keys}, {key: resumed[key] for key in keys}) is None
