"""Whatever stops a run: the images and numbers that follow are those of a run that never stopped.

The runs are 18 steps long: 12 images, two in a batch, six steps an epoch. Each is stopped once and goes on; the images
of each step, its loss and its learning rate are compared with those of the run that nobody stopped.
"""

import errno
import os
import signal
from datetime import timedelta

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from torch.optim import SGD

from efficientps.data.sources.cityscapes import CityscapesDataModule
from efficientps.synthetic.streets import write_synthetic_cityscapes
from efficientps.training.checkpoints.best import BestCheckpoints
from efficientps.training.checkpoints.last import LastCheckpoint, Preempted
from efficientps.training.checkpoints.position import ExactPosition
from efficientps.training.checkpoints.random_states import RandomStates
from efficientps.training.checkpoints.resolve import CHECKPOINT_NAME
from efficientps.training.checkpoints.write import AtomicCheckpointIO, CheckpointWriteError
from efficientps.training.module import PanopticModule
from efficientps.training.schedules import WarmupPlateau
from tests.acceptance.kills import comparable, difference
from tests.tiny_network import TinyNetwork

TOTAL_STEPS = 18


class Diary(Callback):
    """Writes down what each batch does: images, loss, learning rate, and the number that loggers give to its step."""

    def __init__(self):
        self.entries, self.validated = [], set()

    def on_validation_start(self, trainer, pl_module):
        self.validated.add(trainer.fit_loop.total_batch_idx + 1)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        position = (trainer.current_epoch, batch_idx, trainer.fit_loop.epoch_loop._batches_that_stepped)
        self.entries.append((*position, *batch["image_ids"], float(outputs["loss"]), pl_module.learning_rate))


class Clock(Timer):
    """A second passes in each batch."""

    def on_train_batch_end(self, trainer, *arguments):
        self.seconds = trainer.fit_loop.total_batch_idx + 1
        super().on_train_batch_end(trainer, *arguments)

    def time_elapsed(self, stage="train"):
        return getattr(self, "seconds", 0)


class Stop(Callback):
    """Stops a run at a batch, counted over epochs.

    Args:
        batch: number of batches that the run has made by then.
        how: ``early``, ``sigint`` or ``sigterm``.
    """

    def __init__(self, batch, how):
        self.batch, self.how = batch, how

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            if self.how == "early":
                trainer.should_stop = True
            else:
                os.kill(os.getpid(), signal.SIGINT if self.how == "sigint" else signal.SIGTERM)


class FullDisk(AtomicCheckpointIO):
    """Has no room for files from a step on."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        if checkpoint["global_step"] >= self.step:
            raise CheckpointWriteError(errno.ENOSPC, "full")
        super().save_checkpoint(checkpoint, path, storage_options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_synthetic_cityscapes(folder, num_train=12, num_val=2, size=(64, 128), num_workers=0)
    return folder


def train(root, folder, *, resume=False, callbacks=(), every_n_steps=4, writer=None, dropout=0.5, **options):
    """Train in a folder, or go on there; return the diary and the trainer."""
    pl.seed_everything(0)
    data = CityscapesDataModule(root=str(root), image_size=(32, 64), batch_size=2, num_workers=0)
    module = PanopticModule(
        network=lambda stuff, things: TinyNetwork(stuff, things, dropout=dropout),
        categories=data.categories,
        batch_size=2,
        optimizer=lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
        schedule=WarmupPlateau(warmup_iterations=4, patience=0),
        inference_copy=False,
    )
    diary = Diary()
    best = BestCheckpoints(
        dirpath=folder,
        filename=CHECKPOINT_NAME,
        auto_insert_metric_name=False,
        monitor="val/PQ",
        mode="max",
        save_top_k=2,
    )
    last = LastCheckpoint(every_n_steps=every_n_steps)
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[diary, RandomStates(), ExactPosition(), *callbacks, best, last],
        plugins=[writer or AtomicCheckpointIO()],
        **options,
    )
    path = folder / "last.ckpt"
    ckpt_path = path if resume and path.is_file() else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except (Preempted, CheckpointWriteError) as stopped:
        trainer.stopped_by = stopped
    return diary, trainer


def limits(kind, batch, accumulate):
    """Return the options of a run that is stopped at a batch by some means."""
    long = {"max_epochs": 3}
    if kind == "max_steps":
        return {"max_steps": batch // accumulate, "max_epochs": -1}
    if kind == "max_time":
        return {**long, "callbacks": [Clock(timedelta(seconds=batch), verbose=False)]}
    if kind == "full disk":
        return {**long, "writer": FullDisk(batch // accumulate)}
    return {**long, "callbacks": [Stop(batch, kind)]}


KINDS = ("max_steps", "max_time", "early", "sigint", "sigterm", "full disk")

SETTINGS = {
    "validation after epochs": {},
    "validation inside epochs": {"val_check_interval": 2},
    "validation that ends before the epoch": {"val_check_interval": 4},
    "accumulated batches": {"accumulate_grad_batches": 4},
    "first four batches": {"limit_train_batches": 4},
    "every second epoch": {"check_val_every_n_epoch": 2},
    "endless epochs": {"check_val_every_n_epoch": None, "val_check_interval": 5},
}


def stops(settings, *, all_of_them):
    """Return kinds of stops and the batches after which they come: few, or each kind after each of twelve batches."""
    batches = range(1, 13) if all_of_them else (4, 6, 11)
    accumulate = settings.get("accumulate_grad_batches", 1)
    return [
        (kind, batch)
        for kind in KINDS
        for batch in batches
        if kind not in ("max_steps", "full disk") or batch % accumulate == 0
    ]


@pytest.mark.slow
@pytest.mark.parametrize("going_on", ["epochs", "steps"])
@pytest.mark.parametrize("name", SETTINGS)
def test_any_stop_after_any_batch(root, tmp_path, name, going_on):
    """Oracle: the run that nobody stopped."""
    goes_on_exactly(root, tmp_path, SETTINGS[name], going_on, all_of_them=True)


@pytest.mark.parametrize(
    ("name", "going_on"),
    [("validation after epochs", "steps"), ("accumulated batches", "epochs"), ("validation inside epochs", "steps")],
)
def test_a_run_goes_on_exactly_whatever_stopped_it(root, tmp_path, name, going_on):
    """Oracle: the run that nobody stopped."""
    goes_on_exactly(root, tmp_path, SETTINGS[name], going_on, all_of_them=False)


def goes_on_exactly(root, tmp_path, settings, going_on, *, all_of_them):
    """Assert that a run which is stopped in each way, and goes on by a larger number of epochs or steps, is exact."""
    accumulate = settings.get("accumulate_grad_batches", 1)
    diary, whole = train(root, tmp_path / "whole", max_epochs=3, **settings)
    expected = diary.entries
    assert len(expected) == (12 if "limit_train_batches" in settings else TOTAL_STEPS)
    final = comparable(torch.load(tmp_path / "whole/last.ckpt"))
    wrong = []
    for kind, batch in stops(settings, all_of_them=all_of_them):
        folder = tmp_path / f"{kind}_{batch}"
        before = train(root, folder, **limits(kind, batch, accumulate), **settings)[0].entries
        longer = {"max_epochs": 3} if going_on == "epochs" else {"max_epochs": -1, "max_steps": whole.global_step}
        after = train(root, folder, resume=True, **longer, **settings)[0].entries
        place = len(expected) - len(after)
        # A full disk leaves an earlier file, and a signal in a validation ends the run at once.
        loses = kind == "full disk" or (kind.startswith("sig") and len(before) in diary.validated)
        lost = len(before) - place if not loses else 0
        found = difference(final, comparable(torch.load(folder / "last.ckpt")))
        if before != expected[: len(before)] or after != expected[place:] or found or lost:
            first = next((i for i, (a, b) in enumerate(zip(after, expected[place:], strict=True)) if a != b), None)
            wrong.append(f"{kind} at {batch}: {len(before)} + {len(after)}, first wrong {first}, lost {lost}, {found}")
    assert not wrong, "\n".join(wrong)


def test_a_file_that_took_a_cut_epoch_for_a_whole_one(root, tmp_path):
    """Oracle: the run that nobody stopped; files of the first edition name the next epoch after a stop inside one."""
    expected = train(root, tmp_path / "whole", max_epochs=3)[0].entries
    folder = tmp_path / "stopped"
    train(root, folder, max_epochs=-1, max_steps=10)
    content = torch.load(folder / "last.ckpt")
    place = content["CityscapesDataModule"]
    assert (place["epoch"], place["batch"]) == (1, 4)
    place.update(epoch=2, batch=0)
    torch.save(content, folder / "last.ckpt")
    assert train(root, folder, resume=True, max_epochs=3)[0].entries == expected[10:]
