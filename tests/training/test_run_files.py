"""The folder of a run and its loggers; its configuration is tested through ``tests/cli/test_train.py``."""

import multiprocessing
import os

import pytest
from pytorch_lightning.loggers import TensorBoardLogger

from efficientps.training import run_files
from efficientps.training.loggers.metrics_csv import MetricsCsv
from efficientps.training.run_files import run_loggers
from efficientps.training.run_folder import RunFolder, RunInUseError, lock, new_folder
from tests.command_line import column


def test_both_loggers_share_a_folder(tmp_path):
    (tmp_path / "version_4").mkdir()
    csv, tensorboard = run_loggers(RunFolder(tmp_path))
    assert isinstance(tensorboard, TensorBoardLogger)
    assert isinstance(csv, MetricsCsv)
    assert tensorboard.log_dir == csv.log_dir == str(tmp_path / "version_5")


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setattr(run_files, "find_spec", lambda name: None)
    (logger,) = run_loggers(RunFolder(tmp_path))
    assert isinstance(logger, MetricsCsv)
    assert not list(tmp_path.iterdir())  # nothing is made before it is needed
    assert logger.log_dir == str(tmp_path / "version_0")


def _make(root, start, names):
    start.wait()
    names.put(new_folder(root).name)


def test_runs_that_start_at_one_moment_have_a_folder_each(tmp_path):
    """Oracle: four names for four processes."""
    context = multiprocessing.get_context("fork")
    start, names = context.Event(), context.Queue()
    processes = [context.Process(target=_make, args=(tmp_path / "runs", start, names)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    assert {names.get(timeout=30) for _ in processes} == {f"version_{number}" for number in range(4)}
    for process in processes:
        process.join()


def _hold(folder, ready, end):
    lock(folder)
    ready.set()
    end.wait()


def test_a_folder_in_use_is_refused_until_its_process_is_gone(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, end))
    process.start()
    ready.wait(30)
    with pytest.raises(RunInUseError, match=rf"{tmp_path.name} is in use by process {process.pid} on .+; wait until"):
        RunFolder(tmp_path.parent).resume(tmp_path)
    process.kill()
    process.join()
    folder = RunFolder(tmp_path.parent)
    folder.resume(tmp_path)
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    folder.release()


def test_the_table_goes_on(tmp_path):
    """Oracle: hand-made rows; the file has two more rows than the checkpoint, and one that was not written whole."""
    folder = RunFolder(tmp_path)
    first = MetricsCsv(folder)
    for step in range(4):
        first.log_metrics({"loss": 10.0 + step}, step=step)
        first.log_metrics({"loss": 10.0 + step}, step=step)  # once more: no second row
    first.log_metrics({"val": 0.5}, step=3)
    with first.file.open("a") as file:
        file.write("4,14.")
    second = MetricsCsv(folder)
    second.cut(num_rows=3, step=99)
    second.log_metrics({"loss": 23.0, "new": 1.0}, step=3)
    assert column(first.file, "step") == [0, 1, 2, 3]
    assert column(first.file, "loss") == [10, 11, 12, 23]
    assert column(first.file, "new") == [1]
    second.cut(num_rows=None, step=2)
    assert column(first.file, "loss") == [10, 11]
