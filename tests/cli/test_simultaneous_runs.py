"""Runs below one root in several processes, each the whole command line."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.callbacks import Callback

from efficientps.training.checkpoints.read import read_checkpoint
from tests.command_line import column, refuse, run, run_at, write_config

pytestmark = pytest.mark.slow

RATES = (0.1, 0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def context():
    """Starts processes that have imported everything and computed nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.command_line", "tests.tiny_network"])
    return found


@pytest.fixture
def config(shared_cityscapes_root, tmp_path):
    return write_config(tmp_path, shared_cityscapes_root)


def test_four_starts_at_one_moment_are_four_runs(context, config, tmp_path):
    """Oracle: the learning rate of each, which is in its configuration, its log, its output and its checkpoints."""
    start = context.Barrier(len(RATES))
    words = ["fit", "--config", str(config), "--model.schedule.warmup_iterations=0", "--model.optimizer.lr"]
    processes = [context.Process(target=run_at, args=(start, *words, str(rate))) for rate in RATES]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(RATES)
    folders = sorted((tmp_path / "runs").iterdir())
    assert [folder.name for folder in folders] == [f"version_{number}" for number in range(len(RATES))]
    found = []
    for folder in folders:
        rate = yaml.safe_load((folder / "config.yaml").read_text())["model"]["optimizer"]["init_args"]["lr"]
        assert column(folder / "metrics.csv", "train/lr")[0] == pytest.approx(rate)
        assert sorted(set(column(folder / "metrics.csv", "step"))) == list(range(6))
        assert len(column(folder / "metrics.csv", "train/loss")) == 6
        checkpoints = list((folder / "checkpoints").iterdir())
        assert len(checkpoints) == 3 and len(list((folder / "evaluation").iterdir())) == 2
        assert {read_checkpoint(path)["lr_schedulers"][0]["base_lrs"][0] for path in checkpoints} == {rate}
        assert (folder / "output.log").read_text().count(" UTC: fit ") == 1
        assert f"--model.optimizer.lr {rate}\n" in (folder / "output.log").read_text()
        found.append(rate)
    assert sorted(found) == list(RATES)


class Waits(Callback):
    """Writes a file in the fourth step and waits, in the process that the environment variable ``WAITS`` is set in."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 4 and "WAITS" in os.environ:
            Path(os.environ["WAITS"]).touch()
            time.sleep(300)


def test_a_run_that_is_training_is_not_resumed_until_it_is_gone(context, config, capfd, tmp_path):
    """Oracle: every file as it was; then the steps of a run that nothing happened to."""
    words = ["fit", "--config", str(config), "--last_checkpoint.every_n_steps=1"]
    words += ["--trainer.callbacks+=tests.cli.test_simultaneous_runs.Waits", "--ckpt_path"]
    process = context.Process(target=run_at, args=(None, *words, "auto"), kwargs={"WAITS": str(tmp_path / "waits")})
    process.start()
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "waits").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        folder = tmp_path / "runs/version_0"
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for choice in ("last", "auto", folder / "checkpoints/last.ckpt"):
            sentence = refuse(capfd, *words, choice)
            assert f"The run {folder} is in use by process {process.pid} on " in sentence
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
        assert list((tmp_path / "runs").iterdir()) == [folder]
    finally:
        process.kill()
        process.join()
    assert run(*words, "last").trainer.global_step == 6
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert len(column(folder / "metrics.csv", "train/loss")) == 6
    assert sorted(set(column(folder / "metrics.csv", "step"))) == list(range(6))
