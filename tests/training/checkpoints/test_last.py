"""Runs that are interrupted and go on end as if nothing had happened."""

import multiprocessing
import os
import shutil
import signal
import time

import pytest
from pytorch_lightning.callbacks import Callback

from efficientps.training.checkpoints.last import INTERRUPTED_EXIT_CODE, PREEMPTED_EXIT_CODE
from efficientps.training.checkpoints.read import read_checkpoint
from tests.acceptance.kills import comparable, difference
from tests.command_line import column, run, write_config
from tests.tiny_network import TinyNetwork  # noqa: F401 - the configuration names it


class Interrupted(RuntimeError):
    """What a kill is in these tests: nothing is saved any more."""


class Interrupt(Callback):
    """Does something to the run in one of its hooks; ``acted`` is when the last one did.

    ``plan`` says what: the name of the hook, the number of optimizer steps made by then, and ``kill``, ``term`` (a
    signal), ``int`` (Ctrl-C, which the loading processes get, too), ``twice`` (Ctrl-C and a second one) or ``remove``
    (the folder of the run). It is no argument, so that the run that goes on has the same configuration.
    """

    plan = None

    def act(self, hook, trainer):
        if self.plan and (hook, trainer.global_step) == self.plan[:2]:
            how, Interrupt.plan = self.plan[2], None
            Interrupt.acted = time.monotonic()
            if how == "kill":
                raise Interrupted
            if how == "term":
                os.kill(os.getpid(), signal.SIGTERM)
            if how in ("int", "twice"):
                for process in (*multiprocessing.active_children(), multiprocessing.current_process()):
                    os.kill(process.pid, signal.SIGINT)
            if how == "twice":
                os.kill(os.getpid(), signal.SIGINT)
            if how == "remove":
                shutil.rmtree(trainer.default_root_dir)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.act("on_train_batch_start", trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.act("on_train_batch_end", trainer)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.act("on_validation_batch_start", trainer)

    def on_train_epoch_end(self, trainer, pl_module):
        self.act("on_train_epoch_end", trainer)


def interrupt(hook, step, how="kill"):
    """Plan an interruption of the next run; return the options that it takes, which are none."""
    Interrupt.plan = (hook, step, how)
    return []


OPTIONS = [
    *("--trainer.max_epochs", 3, "--trainer.num_sanity_val_steps", 0, "--last_checkpoint.every_n_steps", 2),
    *("--model.network.dropout", 0.5, "--data.photometric", "true", "--overlays.num_images", 0, "--data.batch_size", 1),
    *("--model.schedule", "WarmupPlateau", "--model.schedule.patience", 0, "--model.schedule.warmup_iterations", 4),
    "--trainer.callbacks+=tests.training.checkpoints.test_last.Interrupt",
]
"""Three epochs of seven steps, with random numbers in the network, and a schedule that looks at validations."""


@pytest.fixture
def config(shared_cityscapes_root, tmp_path):
    return write_config(tmp_path, shared_cityscapes_root)


@pytest.fixture(scope="module")
def whole_run(shared_cityscapes_root, tmp_path_factory):
    """A function that returns the folder of the run with some options that nobody interrupted; it runs once."""
    folders = {}

    def folder_of(options):
        key = tuple(map(str, options))
        if key not in folders:
            folder = tmp_path_factory.mktemp("whole")
            run("fit", "--config", write_config(folder, shared_cityscapes_root), *options)
            folders[key] = folder / "runs"
        return folders[key]

    return folder_of


def ends_alike(whole, folder):
    """Assert that the run has one folder with checkpoints, which are those of the whole run, and the whole log."""
    (one,), (other,) = (list(root.glob("*/checkpoints")) for root in (whole, folder))
    expected, found = (read_checkpoint(checkpoints / "last.ckpt") for checkpoints in (one, other))
    assert difference(comparable(expected), comparable(found)) is None
    for name in ("step", "train/lr", "train/loss", "val/PQ"):
        assert column(other.parent / "metrics.csv", name) == column(one.parent / "metrics.csv", name)
    assert sorted(path.name for path in other.iterdir()) == sorted(path.name for path in one.iterdir())


@pytest.mark.parametrize("val_check_interval", [1.0, 3])
@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_train_batch_start", 1),
        ("on_train_batch_end", 5),
        ("on_train_batch_start", 6),
        ("on_train_batch_start", 7),
        ("on_validation_batch_start", 7),
        ("on_train_batch_end", 8),
        ("on_train_batch_start", 10),
        ("on_train_epoch_end", 14),
        ("on_train_batch_end", 21),
    ],
)
def test_a_killed_run_goes_on_exactly(config, whole_run, tmp_path, hook, step, val_check_interval):
    """Oracle: the run that nobody interrupted."""
    if val_check_interval == 3 and hook == "on_validation_batch_start":
        step -= 1  # validations are after the third and the sixth step of an epoch
    options = [*OPTIONS, "--trainer.val_check_interval", val_check_interval]
    with pytest.raises(Interrupted):
        run("fit", "--config", config, *options, *interrupt(hook, step))
    run("fit", "--config", config, *options, "--ckpt_path", "last")
    ends_alike(whole_run(options), tmp_path / "runs")


@pytest.mark.parametrize(
    ("step", "num_workers", "how", "code"),
    [(1, 0, "term", 75), (4, 2, "term", 75), (7, 2, "int", 130), (12, 0, "term", 75), (12, 0, "int", 130)],
)
def test_a_signal_saves_at_the_next_step(config, whole_run, tmp_path, capfd, step, num_workers, how, code):
    """Oracle: the run that nobody interrupted, without loading processes; no step is made twice."""
    options = ["--config", config, *OPTIONS, "--data.num_workers", num_workers]
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert run("fit", *options, *interrupt("on_train_batch_start", step, how)) == code
    assert code in (PREEMPTED_EXIT_CODE, INTERRUPTED_EXIT_CODE)
    printed = capfd.readouterr().err
    assert "Continue the run with --ckpt_path last" in printed
    assert ("Ctrl-C: the run ends after this step and saves its state" in printed) == (how == "int")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert read_checkpoint(tmp_path / "runs/version_0/checkpoints/last.ckpt")["global_step"] == step + 1
    run("fit", *options, "--ckpt_path", "last")
    ends_alike(whole_run(OPTIONS), tmp_path / "runs")


def test_a_second_interrupt_ends_at_once(config, whole_run, tmp_path):
    """Oracle: the step is not finished; the run goes on from the file before it as if nothing had happened."""
    options = ["--config", config, *OPTIONS]
    assert run("fit", *options, *interrupt("on_train_batch_start", 5, "twice")) == INTERRUPTED_EXIT_CODE == 130
    assert read_checkpoint(tmp_path / "runs/version_0/checkpoints/last.ckpt")["global_step"] == 4
    run("fit", *options, "--ckpt_path", "last")
    ends_alike(whole_run(OPTIONS), tmp_path / "runs")


def test_sigterm_ends_a_validation(config, whole_run, tmp_path):
    """What led up to the validation is made again, and the run ends as if nothing had happened."""
    options = ["--config", config, *OPTIONS]
    assert run("fit", *options, *interrupt("on_validation_batch_start", 7, "term")) == PREEMPTED_EXIT_CODE
    assert read_checkpoint(tmp_path / "runs/version_0/checkpoints/last.ckpt")["global_step"] == 6
    run("fit", *options, "--ckpt_path", "last")
    ends_alike(whole_run(OPTIONS), tmp_path / "runs")


def test_accumulated_batches_are_not_torn_apart(config, whole_run, tmp_path):
    """Oracle: the uninterrupted run; three batches make a step, and the seventh one alone makes the third."""
    options = [*OPTIONS, "--trainer.accumulate_grad_batches", 3]
    ended = run("fit", "--config", config, *options, *interrupt("on_train_batch_start", 4, "term"))
    assert ended == PREEMPTED_EXIT_CODE
    run("fit", "--config", config, *options, "--ckpt_path", "last")
    ends_alike(whole_run(options), tmp_path / "runs")


def test_run_whose_folder_vanishes_ends(config, tmp_path, capfd):
    options = ["--config", config, *OPTIONS, *interrupt("on_train_batch_start", 3, "remove")]
    assert run("fit", *options) == 1
    assert time.monotonic() - Interrupt.acted < 5  # seconds, the step that follows included
    assert "could not be written: its folder is gone" in capfd.readouterr().err


def test_checkpoint_from_another_total_batch(config, tmp_path):
    """The rest of that epoch is dealt out anew, and it is said; the file is outside of its run, which is not known."""
    options = ["--config", config, *OPTIONS]
    run("fit", *options, *interrupt("on_train_batch_start", 1, "term"))
    moved = shutil.copy(tmp_path / "runs/version_0/checkpoints/last.ckpt", tmp_path / "moved.ckpt")
    with pytest.warns(UserWarning, match="inside epoch 0 of a run with a total batch of 1 images, now it is 2"):
        resumed = run("fit", *options, "--ckpt_path", moved, "--data.batch_size", 2)
    assert resumed.trainer.global_step == 2 + 1 + 3 + 3


def test_number_of_steps_is_checked(config, capfd):
    assert run("fit", "--config", config, "--last_checkpoint.every_n_steps", 0) == 1
    sentence = (
        "every_n_steps is 0; give 1 or more, or null for none (in the configuration: last_checkpoint.every_n_steps)"
    )
    assert sentence in capfd.readouterr().err
