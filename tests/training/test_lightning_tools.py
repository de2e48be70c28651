"""Schedulers of PyTorch and callbacks that act on weights, in whole trainings of the tiny network."""

import os
import subprocess
import sys

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.tuner import Tuner
from torch.optim import SGD

from efficientps.cli.arguments import DEFAULT_CONFIG
from efficientps.training.callbacks import FrozenBackbone
from efficientps.training.checkpoints.read import read_checkpoint
from tests.acceptance.kills import difference
from tests.command_line import column, refuse, run, write_config
from tests.training.test_module import batch, loader, module, targets, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

ONE_CYCLE = ["--model.schedule=OneCycleLR", "--model.schedule.max_lr=0.1", "--model.schedule.total_steps=9"]
COSINE = ["--model.schedule=CosineAnnealingLR", "--model.schedule.T_max=3", "--model.schedule_interval=epoch"]
PLATEAU = ["--model.schedule=torch.optim.lr_scheduler.ReduceLROnPlateau"]
PLATEAU += ["--model.schedule.mode=max", "--model.schedule.patience=0"]
ACCUMULATION = ["--trainer.callbacks+=GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 2}"]
SWA = ["--trainer.callbacks+=SWAWeightAveraging", "--trainer.callbacks.start_epoch=1"]
FROZEN = ["--trainer.callbacks+=FrozenBackbone", "--trainer.callbacks.epochs=2", "--model.backbone_lr_factor=0.5"]


@pytest.fixture
def options(shared_cityscapes_root, tmp_path):
    config = write_config(tmp_path, shared_cityscapes_root)
    return ["fit", "--config", config, "--overlays.num_images=0", "--trainer.max_epochs=3"]


def last(folder):
    return read_checkpoint(folder / "version_0/checkpoints/last.ckpt")


@pytest.mark.parametrize(
    ("tool", "stop"),
    [
        (ONE_CYCLE, 4),
        (SWA, 7),
        (FROZEN, 4),
        (FROZEN, 7),
        pytest.param(COSINE, 4, marks=pytest.mark.slow),
        pytest.param(COSINE, 6, marks=pytest.mark.slow),  # after an epoch
        pytest.param(PLATEAU, 6, marks=pytest.mark.slow),
        pytest.param(ACCUMULATION, 3, marks=pytest.mark.slow),  # of 2 steps an epoch
    ],
)
def test_a_run_goes_on_exactly(options, tmp_path, tool, stop):
    """Oracle: the run that nothing stopped: weights, averages, optimizer, schedule and the rates of all steps."""
    whole, parts = (["--trainer.default_root_dir", tmp_path / name] for name in ("whole", "parts"))
    run(*options, *tool, *whole)
    run(*options, *tool, *parts, "--trainer.max_steps", stop)
    run(*options, *tool, *parts, "--ckpt_path=last")
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")
    states = [{key: last(tmp_path / name).get(key) for key in keys} for name in ("whole", "parts")]
    assert difference(*states) is None
    for name in ("train/lr", "train/loss", "val/mIoU"):
        values = [column(tmp_path / folder / "version_0/metrics.csv", name) for folder in ("whole", "parts")]
        assert values[0] == values[1] and values[0]


def test_the_backbone_is_frozen_for_an_epoch(options, tmp_path):
    """Oracle: the initial weights; and the steps by hand, with a head alone in the optimizer."""
    network = module().network
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    network.backbone.eval()
    optimizer = SGD(network.head.parameters(), lr=0.05, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        sum(network.loss(targets()).values()).backward()
        optimizer.step()
    model = module(optimizer=lambda groups: SGD(groups, lr=0.05, momentum=0.9))
    frozen = [FrozenBackbone(epochs=1)]
    trainer(tmp_path, max_epochs=1, callbacks=frozen).fit(model, loader([targets()] * 2), loader([batch()]))
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=0, atol=0)
        assert torch.equal(value, initial[name]) == name.startswith("backbone")
    assert model.network.backbone.training and all(p.requires_grad for p in model.network.parameters())
    trainer(tmp_path, max_epochs=2, callbacks=frozen).fit(model, loader([targets()] * 2))
    assert not torch.equal(model.network.state_dict()["backbone.0.weight"], initial["backbone.0.weight"])


class Witness(Callback):
    """Writes the weights of each process down, at the start of each epoch and at the end."""

    def __init__(self, folder: str):
        self.folder = folder

    def on_train_epoch_start(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), f"{self.folder}/{trainer.global_rank}_{trainer.current_epoch}.pt")

    on_train_end = on_train_epoch_start


@pytest.mark.slow
def test_the_backbone_is_frozen_in_two_processes(options, tmp_path):
    """Oracle: the weights before; after the frozen epoch both processes learn, and hold the same weights."""
    words = [sys.executable, DEFAULT_CONFIG.with_name("train_net.py"), *options, "--trainer.max_epochs=2"]
    words += ["--trainer.callbacks+=FrozenBackbone", "--trainer.callbacks.epochs=1", "--data.batch_size=1"]
    words += ["--trainer.callbacks+=tests.training.test_lightning_tools.Witness", "--trainer.strategy=ddp"]
    words += [f"--trainer.callbacks.folder={tmp_path}", "--trainer.devices=2", "--trainer.limit_val_batches=0"]
    environment = os.environ | {"PYTHONPATH": str(DEFAULT_CONFIG.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-1000:]
    states = {(r, e): torch.load(tmp_path / f"{r}_{e}.pt", weights_only=True) for r in (0, 1) for e in (0, 1, 2)}
    for name in ("network.backbone.0.weight", "network.backbone.1.running_mean", "network.head.weight"):
        assert torch.equal(states[0, 0][name], states[0, 1][name]) == ("backbone" in name)
        assert not torch.equal(states[0, 1][name], states[0, 2][name])
        assert torch.equal(states[0, 2][name], states[1, 2][name]) or name.endswith("running_mean")


def test_the_mean_of_the_weights_after_late_epochs(options, tmp_path):
    """Oracle: the mean by hand, of the weights that a run without averaging has after epochs 1, 2 and 3."""
    run(*options, "--checkpoint.save_top_k=-1", "--trainer.default_root_dir", tmp_path / "plain")
    epochs = sorted((tmp_path / "plain").rglob("epoch*.ckpt"))
    states = [read_checkpoint(path)["state_dict"] for path in epochs]
    run(*options, *SWA, "--trainer.default_root_dir", tmp_path / "mean")
    saved = last(tmp_path / "mean")["state_dict"]
    assert len(states) == 3
    for name, value in saved.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, sum(state[name] for state in states) / 3)


def test_finding_a_learning_rate(options, tmp_path, caplog):
    """Oracle: the run without the search, which ends with the same weights; and the rate that the tuner sets."""
    search = ["--trainer.callbacks+=LearningRateFinder", "--trainer.callbacks.update_attr=false"]
    search += ["--trainer.callbacks.num_training_steps=9", "--trainer.callbacks.early_stop_threshold=null"]
    plain = run(*options, "--trainer.default_root_dir", tmp_path / "plain")
    searched = run(*options, *search, "--trainer.default_root_dir", tmp_path / "searched")
    assert difference(searched.model.state_dict(), plain.model.state_dict()) is None
    model = module()
    fit = trainer(tmp_path, max_epochs=1)
    data = {"train_dataloaders": loader([targets()] * 30)}
    found = Tuner(fit).lr_find(model, **data, num_training=25, early_stop_threshold=None)
    fit.fit(model, **data)
    assert fit.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(found.suggestion())


@pytest.mark.parametrize(
    ("tool", "sentence"),
    [
        (["--trainer.callbacks+=LearningRateFinder"], "give it update_attr false"),
        (["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"], "SWAWeightAveraging"),
        (["--trainer.callbacks+=BackboneFinetuning"], "use FrozenBackbone"),
        (["--checkpoint.monitor=val/miou"], "BestCheckpoints waits for the metric val/miou, .* did you mean val/mIoU?"),
    ],
)
def test_tools_that_are_refused_leave_no_folder(options, tmp_path, capfd, tool, sentence):
    assert sentence.split(" .* ")[-1] in refuse(capfd, *options, *tool)
    assert not list((tmp_path / "runs").glob("*"))


def test_save_last_leaves_one_last(options, tmp_path):
    saving = ["--checkpoint.save_last=true", "--trainer.callbacks+=ModelCheckpoint"]
    saving += ["--trainer.callbacks.save_last=link"]
    run(*options, *saving)
    run(*options, *saving, "--ckpt_path=last", "--trainer.max_epochs=4")
    assert [path.name for path in (tmp_path / "runs").rglob("last*")] == ["last.ckpt"]
