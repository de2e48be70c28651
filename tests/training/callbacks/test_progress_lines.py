"""What a user sees of a run whose output is no terminal, and which progress bar a run has."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pytorch_lightning.callbacks import RichProgressBar, Timer, TQDMProgressBar

from efficientps.training.callbacks import progress_lines
from efficientps.training.callbacks.progress_lines import ProgressLines, default_progress
from tests.command_line import column, run, write_config

EVERY_STEP = (
    "--trainer.callbacks+={class_path: efficientps.training.callbacks.ProgressLines, init_args: {every_seconds: 0}}"
)
SHOWN = ("--trainer.enable_progress_bar", True)


def test_lines_of_a_training_and_of_a_validation(shared_cityscapes_root, tmp_path, capsys):
    """Oracle: metrics.csv of the same run, and hand-counted: 7 images in batches of 2 make 3 steps, 3 to validate."""
    config = write_config(tmp_path, shared_cityscapes_root)
    run("fit", "--config", config, EVERY_STEP, *SHOWN)
    lines = capsys.readouterr().out.splitlines()
    steps = [line for line in lines if re.match(r"epoch \d, step \d of 6: ", line)]
    logged = tmp_path / "runs/version_0/metrics.csv"
    assert [int(re.search(r"step (\d)", line)[1]) for line in steps] == [1, 2, 3, 4, 5, 6]
    for name, label in (("train/loss", "loss"), ("train/lr", "learning rate")):
        shown = [float(re.search(rf"{label} (\S+?)(,|$)", line)[1]) for line in steps]
        assert shown == pytest.approx(column(logged, name), rel=5e-3)
    assert all(re.search(r", \S+ images/s", line) for line in steps[1:])
    assert all(re.search(r", \d+ s left$", line) for line in steps[1:])
    qualities = [float(re.search(r"PQ (\S+)", line)[1]) for line in lines if "in validation" in line]
    assert qualities == pytest.approx([100 * pq for pq in column(logged, "val/PQ")], abs=0.006)
    assert f"(best before: {qualities[0]:.2f})" in next(line for line in lines if "step 6: PQ" in line)
    assert sum(line.startswith("validation, batch ") for line in lines) == 6

    last = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    for command, word in (("validate", "validation"), ("test", "test"), ("predict", "prediction")):
        run(command, "--config", config, "--ckpt_path", last, EVERY_STEP, *SHOWN)
        shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{word}, batch ")]
        assert [line.split(":")[0] for line in shown] == [f"{word}, batch {number} of 3" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("is_terminal", "term", "users", "expected"),
    [
        (False, "xterm", [], [ProgressLines]),
        (True, "xterm", [], [RichProgressBar]),
        (True, "dumb", [], [ProgressLines]),
        (False, "xterm", [TQDMProgressBar()], []),
        (True, "xterm", [Timer("00:01:00:00"), ProgressLines()], []),
    ],
)
def test_a_bar_is_drawn_on_terminals_and_that_of_the_user_takes_its_place(
    monkeypatch, is_terminal, term, users, expected
):
    """Oracle: definition; colours that are forced do not make a terminal."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    assert [type(bar) for bar in default_progress(users, refresh_rate=1)] == expected


@pytest.mark.parametrize("bar", ["TQDMProgressBar", "tests.training.callbacks.test_progress_lines.OwnBar"])
def test_a_run_with_the_users_bar(shared_cityscapes_root, tmp_path, capsys, bar):
    """Oracle: definition; the run ends well, and nothing is shown twice."""
    config = write_config(tmp_path, shared_cityscapes_root)
    cli = run("fit", "--config", config, f"--trainer.callbacks+={bar}", "--trainer.max_epochs", 1, *SHOWN)
    assert type(cli.trainer.progress_bar_callback).__name__ == bar.rpartition(".")[2]
    assert not re.search(r"epoch 0, step 1 of", capsys.readouterr().out)


class OwnBar(TQDMProgressBar):
    """A bar of a user."""


class _Trainer(SimpleNamespace):
    """A trainer that counts how often its metrics are read."""

    reads = 0

    @property
    def callback_metrics(self):
        self.reads += 1
        return {}


@pytest.mark.parametrize("is_first", [True, False])
def test_values_are_read_when_a_line_is_due_and_by_the_first_process(monkeypatch, capsys, is_first):
    """Oracle: hand-worked clock; a step each 4 s, a line when 10 s have passed: steps 1, 4, 7 and 10 of 12."""
    now = iter(range(0, 48, 4))
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: float(next(now)))
    trainer = _Trainer(
        is_global_zero=is_first, estimated_stepping_batches=12, current_epoch=0, global_step=0, callbacks=[]
    )
    lines = ProgressLines(every_seconds=10)
    lines.setup(trainer, None, "fit")
    lines.on_train_start(trainer, None)
    for step in range(1, 13):
        trainer.global_step = step
        lines.on_train_batch_end(trainer, None, None, {}, step - 1)
    shown = [
        f"epoch 0, step {step} of 12: {left}" for step, left in ((4, "32 s left"), (7, "20 s left"), (10, "8 s left"))
    ]
    assert capsys.readouterr().out.splitlines() == (["epoch 0, step 1 of 12", *shown] if is_first else [])
    assert trainer.reads == (4 if is_first else 0)


@pytest.mark.parametrize("seconds", [0.4, 3, 6, 7.4, 7.6, 9, 12, 14])
def test_slow_steps_do_not_delay_lines(seconds, monkeypatch, capsys):
    """Oracle: the times of the lines; with the usual interval of 10 s, no two are more than 15 s apart."""
    clock, times = [0.0], []
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: clock[0])
    trainer = _Trainer(
        is_global_zero=True, estimated_stepping_batches=200, current_epoch=0, global_step=0, callbacks=[]
    )
    lines = ProgressLines()
    lines.setup(trainer, None, "fit")
    lines.on_train_start(trainer, None)
    for step in range(200):
        lines.on_train_batch_end(trainer, None, None, {}, step)
        if capsys.readouterr().out:
            times.append(clock[0])
        clock[0] += seconds
    assert len(times) > 3 and max(np.diff(times)) <= 15 and min(np.diff(times)) > min(max(seconds, 7), 10) - 1e-6


def test_the_time_left_ends_with_max_time(capsys):
    """Oracle: by hand; an endless run whose timer has 90 seconds left."""
    timer = Timer({"minutes": 1, "seconds": 30})
    trainer = _Trainer(estimated_stepping_batches=float("inf"), current_epoch=0, global_step=1, callbacks=[timer])
    ProgressLines().on_train_batch_end(trainer, None, None, {}, 0)
    assert capsys.readouterr().out == "epoch 0, step 1: 1 min 30 s left\n"


def test_the_interval_is_checked():
    with pytest.raises(ValueError, match=r"every_seconds is -1; give a number of seconds from 0 on"):
        ProgressLines(every_seconds=-1)
