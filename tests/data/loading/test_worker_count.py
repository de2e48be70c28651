"""How many processes load data, by hand-worked machines."""

import os

from pytorch_lightning import Trainer

from efficientps.data.loading import datamodule
from efficientps.data.loading.loaders import Loading
from efficientps.data.loading.worker_count import MAX_WORKERS, available_cores, workers_for
from efficientps.data.sources.cityscapes import CityscapesDataModule
from tests.sweep import sweep


@sweep(
    "cores, processes, workers",
    [(1, 1, 0), (2, 1, 1), (2, 4, 0), (16, 1, 15), (64, 8, 7), (256, 2, MAX_WORKERS)],
)
def test_the_cores_are_shared_and_one_is_kept(cores, processes, workers):
    assert workers_for(cores=cores, processes=processes) == workers


@sweep(
    "files, cores",
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "350000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "nonsense"}, 8),
    ],
)
def test_containers_limit_the_cores(monkeypatch, tmp_path, files, cores):
    """Oracle: what the kernel's documentation says of the files, on a machine that the process has 8 cores of."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == cores


def test_what_auto_means_is_said_once(cityscapes_root, monkeypatch, caplog):
    """Oracle: hand-worked; 12 cores of one process, and loaders of 7 and 3 batches."""
    monkeypatch.setattr(datamodule, "available_cores", lambda: 12)
    caplog.set_level("INFO", logger="pytorch_lightning")
    data = CityscapesDataModule(root=str(cityscapes_root), image_size=(32, 64), batch_size=1)
    data.setup("fit")
    assert data.train_dataloader().num_workers == 7
    assert data.val_dataloader().num_workers == 3
    said = [message for message in caplog.messages if "num_workers" in message]
    assert said == ["num_workers is auto: up to 11 for each loader, with 12 CPU cores for 1 process on this machine."]


def test_processes_of_a_run_share_the_cores(cityscapes_root, monkeypatch):
    """Oracle: hand-worked; 9 cores for three processes leave each two workers."""
    monkeypatch.setattr(datamodule, "available_cores", lambda: 9)
    data = CityscapesDataModule(root=str(cityscapes_root), image_size=(32, 64), batch_size=1)
    data.trainer = Trainer(accelerator="cpu", devices=3, strategy="ddp", logger=False, enable_checkpointing=False)
    data.setup("fit")
    assert data._loader(data.train_dataset, range(7), 1).num_workers == 2
    monkeypatch.setattr(data, "loading", Loading(num_workers=5))
    assert data._loader(data.train_dataset, range(7), 1).num_workers == 5
