"""Which run goes on, and with which changes."""

import shutil

import pytest
import yaml
from pytorch_lightning.callbacks import Callback

from efficientps.training.checkpoints.read import read_checkpoint
from tests.command_line import column, refuse, run, write_config
from tests.tiny_network import TinyNetwork  # noqa: F401 - the configuration names it


@pytest.fixture
def config(shared_cityscapes_root, tmp_path):
    return write_config(tmp_path, shared_cityscapes_root)


RATES = (1e-3, 5e-3, 2e-3)


@pytest.fixture(scope="module")
def three_runs(shared_cityscapes_root, tmp_path_factory):
    """The folder of three short runs with different learning rates."""
    folder = tmp_path_factory.mktemp("three")
    for rate in RATES:
        run("fit", "--config", write_config(folder, shared_cityscapes_root), *short(rate))
    return folder / "runs"


def short(rate, epochs=1):
    return ["--model.optimizer.lr", rate, "--trainer.max_epochs", epochs, "--overlays.num_images", 0]


@pytest.fixture
def runs(three_runs, tmp_path):
    """A copy of the three runs below the root of ``config``."""
    shutil.copytree(three_runs, tmp_path / "runs")
    return tmp_path / "runs"


class DiesOnce(Callback):
    """Ends the first training of this process in its second step."""

    has_died = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 1 and not DiesOnce.has_died:
            DiesOnce.has_died = True
            raise RuntimeError("dies")


def rate_of(checkpoint):
    (schedule,) = read_checkpoint(checkpoint)["lr_schedulers"]
    return schedule["base_lrs"][0]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.usefixtures("runs")
def test_last_is_the_run_with_this_configuration(config, rate):
    """Oracle: the learning rate in the checkpoint; length, workers, logging and paths do not matter."""
    options = ["--trainer.log_every_n_steps", 2, "--overlays.num_images", 1, "--data.num_workers", 1]
    resumed = run("fit", "--config", config, *short(rate, epochs=2), *options, "--ckpt_path", "last")
    assert rate_of(resumed.trainer.ckpt_path) == rate
    assert resumed.trainer.current_epoch == 2


def test_last_refuses_a_configuration_without_a_run(runs, config, capfd):
    sentence = refuse(capfd, "fit", "--config", config, *short(9e-3), "--data.flip_prob", 0, "--ckpt_path", "last")
    assert f"No run below {runs} has this configuration. In the newest one, {runs / 'version_2'}, " in sentence
    assert "model.optimizer.lr is 0.002 there and 0.009 here" in sentence
    assert "data.flip_prob is 0.5 there and 0.0 here" in sentence
    assert "--model.init_from=" in sentence and "a new run, with --ckpt_path auto or without it" in sentence
    assert not (runs / "version_3").exists()


def test_auto_goes_on_or_begins(runs, config, capfd):
    """Oracle: the learning rates in the checkpoints: one that a run has, then one that none has, twice."""
    goes_on = run("fit", "--config", config, *short(RATES[0], epochs=2), "--ckpt_path", "auto")
    assert goes_on.trainer.log_dir == str(runs / "version_0") and rate_of(goes_on.trainer.ckpt_path) == RATES[0]
    capfd.readouterr()
    begins = run("fit", "--config", config, *short(9e-3), "--ckpt_path", "auto")
    assert begins.trainer.log_dir == str(runs / "version_3") and begins.trainer.global_step == 3
    said = capfd.readouterr().out
    assert "model.optimizer.lr is 0.001 there and 0.009 here: training from the start." in said
    goes_on = run("fit", "--config", config, *short(9e-3, epochs=2), "--ckpt_path", "auto")
    assert goes_on.trainer.log_dir == str(runs / "version_3") and goes_on.trainer.global_step == 6


@pytest.mark.parametrize("choice", ["last", "auto"])
def test_a_run_without_a_checkpoint_begins_again_in_its_folder(runs, config, capfd, monkeypatch, choice):
    """Oracle: a run that nothing stops; the other one dies in its second step, after a validation of its own kind."""
    monkeypatch.setattr(DiesOnce, "has_died", False)
    run("validate", "--config", config, "--model.optimizer.lr", 9e-3)  # its folder is not that of a training
    with pytest.raises(RuntimeError, match="dies"):
        run("fit", "--config", config, *short(9e-3), "--trainer.callbacks+=tests.cli.test_resuming.DiesOnce")
    died = runs / "version_4"
    assert column(died / "metrics.csv", "step") == [0] and not list(died.rglob("*.ckpt"))
    capfd.readouterr()
    options = [*short(9e-3), "--trainer.callbacks+=tests.cli.test_resuming.DiesOnce", "--ckpt_path", choice]
    again = run("fit", "--config", config, *options)
    assert f"{died} stopped before its first checkpoint and begins again in its folder" in capfd.readouterr().out
    assert again.trainer.log_dir == str(died) and not (runs / "version_5").exists()
    run("fit", "--config", config, *options[:-2])
    assert column(died / "metrics.csv", "train/loss") == column(runs / "version_5/metrics.csv", "train/loss")
    assert column(died / "metrics.csv", "step") == column(runs / "version_5/metrics.csv", "step")


def test_a_run_of_an_older_edition_is_recognised(runs, config):
    """Keys that the run's configuration lacks have their defaults."""
    path = runs / "version_1/config.yaml"
    saved = yaml.safe_load(path.read_text())
    del saved["model"]["backbone_lr_factor"], saved["trainer"]["barebones"]
    saved["model"]["optimizer"]["class_path"] = "SGD"
    path.write_text(yaml.safe_dump(saved))
    resumed = run("fit", "--config", config, *short(RATES[1], epochs=2), "--ckpt_path", "last")
    assert rate_of(resumed.trainer.ckpt_path) == RATES[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.optimizer.lr", 0.5], "model.optimizer.lr is 0.001 there and 0.5 here"),
        (["--model.optimizer.momentum", 0.5], "model.optimizer.momentum is 0.9 there and 0.5 here"),
        (["--model.optimizer", "Adam"], "model.optimizer is torch.optim.SGD there and torch.optim.Adam here"),
        (["--model.schedule", "WarmupPlateau"], "WarmupSteps there and efficientps.training.schedules.WarmupPlateau"),
        (["--model.schedule.milestones", "[1]"], "model.schedule.milestones is [2] there and [1] here"),
        (["--model.scale_lr", 4], "model.scale_lr is null there and 4 here"),
        (["--model.weight_decay_norms", "false"], "model.weight_decay_norms is True there and False here"),
        (["--data.batch_size", 1], "data.batch_size is 2 there and 1 here"),
    ],
)
def test_what_cannot_change_is_refused_by_its_key(runs, config, capfd, options, sentence):
    checkpoint = runs / "version_0/checkpoints/last.ckpt"
    said = refuse(capfd, "fit", "--config", config, *short(RATES[0], 2), *options, "--ckpt_path", checkpoint)
    assert sentence in said and f"--model.init_from={checkpoint}" in said
    assert not (runs / "version_3").exists()


def test_what_can_change_is_taken(runs, config):
    options = ["--trainer.gradient_clip_val", 1, "--data.flip_prob", 0, "--trainer.val_check_interval", 1]
    checkpoint = runs / "version_0/checkpoints/last.ckpt"
    resumed = run("fit", "--config", config, *short(RATES[0], 2), *options, "--ckpt_path", checkpoint)
    assert resumed.trainer.gradient_clip_val == 1 and resumed.trainer.ckpt_path == checkpoint


def test_best_where_there_is_none_is_refused(config, capfd, tmp_path):
    sentence = refuse(capfd, "fit", "--config", config, "--ckpt_path", "best")
    assert f"--ckpt_path best: there is no such checkpoint below {tmp_path / 'runs'}" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.optimizer.lr", 0.5], "was trained with lr 0.001, this run gives 0.5 (in the configuration: model."),
        (["--model.optimizer", "Adam"], "with another optimizer than Adam: it holds dampening, momentum, nesterov"),
        (["--model.schedule", "WarmupPlateau"], "is of a run with another schedule (in the configuration: model.sched"),
        (["--model.network.frozen", "true"], "trains parameter groups of 6 tensors, this run those of 2: other parts"),
        (["--model.weight_decay_norms", "false"], "parameter groups of 6 tensors, this run those of 2 + 4"),
    ],
)
def test_a_file_outside_its_run_is_compared_as_well(runs, config, capfd, tmp_path, options, sentence):
    """Oracle: the values that were given; there is no configuration beside the file."""
    moved = shutil.copy(runs / "version_0/checkpoints/last.ckpt", tmp_path / "moved.ckpt")
    said = refuse(capfd, "fit", "--config", config, *short(RATES[0], 2), *options, "--ckpt_path", moved)
    assert sentence in said and f"--model.init_from={moved}" in said


def test_a_scaled_rate_stays_of_a_checkpoint(runs, config, tmp_path):
    """Oracle: hand-worked; a rate of 1e-3 for 4 images is 5e-4 for 2."""
    moved = shutil.copy(runs / "version_0/checkpoints/last.ckpt", tmp_path / "moved.ckpt")
    with pytest.warns(UserWarning, match="stays at that of the checkpoint, 0.001; scaled .* it would be 0.0005"):
        run("fit", "--config", config, *short(RATES[0], 2), "--model.scale_lr", 4, "--ckpt_path", moved)


def test_two_resumes_leave_one_run(config, tmp_path):
    """Oracle: the numbers of 12 steps and the epochs of 4 validations, none missing and none double."""
    options = ["--config", config, "--trainer.val_check_interval", 1.0, "--html_report.enabled", "true"]
    for epochs in (1, 2, 4):
        run("fit", *options, "--trainer.max_epochs", epochs, "--ckpt_path", "last")
    (folder,) = (tmp_path / "runs").iterdir()
    steps = len(column(folder / "metrics.csv", "train/lr"))
    assert steps == read_checkpoint(folder / "checkpoints/last.ckpt")["global_step"]
    rows = column(folder / "metrics.csv", "step")
    assert sorted(set(rows)) == list(range(steps)) and len(rows) == steps + 4
    assert len(column(folder / "metrics.csv", "val/PQ")) == 4
    assert [path.name for path in sorted((folder / "evaluation").iterdir())] == [
        f"val_epoch00{epoch}.json" for epoch in range(4)
    ]
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 4


@pytest.mark.parametrize(
    "logger", ["false", '{"class_path": "CSVLogger", "init_args": {"save_dir": "TMP/own", "version": "mine"}}']
)
def test_loggers_of_the_user_do_not_replace_the_runs_own(config, tmp_path, logger):
    """Oracle: the files of each run; twice in the same place."""
    options = [*short(0.1), "--trainer.logger", logger.replace("TMP", str(tmp_path))]
    for number in range(2):
        run("fit", "--config", config, *options)
        folder = tmp_path / f"runs/version_{number}"
        assert (folder / "config.yaml").is_file() and (folder / "checkpoints/last.ckpt").is_file()
        assert (folder / "metrics.csv").is_file() == (logger != "false")
    assert (tmp_path / "own/lightning_logs/mine/metrics.csv").is_file() == (logger != "false")


def test_a_file_outside_its_run_begins_a_folder(runs, config, tmp_path):
    moved = shutil.copy(runs / "version_0/checkpoints/last.ckpt", tmp_path / "moved.ckpt")
    before = read_checkpoint(moved)["global_step"]
    resumed = run("fit", "--config", config, *short(RATES[0], 2), "--ckpt_path", moved)
    assert resumed.trainer.log_dir == str(runs / "version_3")
    assert column(runs / "version_3/metrics.csv", "step")[0] == before
