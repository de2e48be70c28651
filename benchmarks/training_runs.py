"""Runs of train_net.py in processes of their own, and the metrics that they have logged."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Report

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Setting:
    """Data, folder, device and size of the trainings.

    Attributes:
        scenes: a synthetic Cityscapes tree.
        folder: parent folder of the runs; each training makes a folder in it.
        accelerator: ``cpu`` or ``cuda``.
        workers: processes that load data.
        steps: largest number of training batches of an epoch; ``None`` means all, and bars are set only then.
    """

    scenes: Path
    folder: Path
    accelerator: str
    workers: int
    steps: int | None

    def command(self, subcommand: str, *options: str) -> list[str]:
        """Return the command line of train_net.py for a subcommand, with the options that all trainings share."""
        shared = [f"--data.root={self.scenes}", f"--data.num_workers={self.workers}"]
        shared += [f"--trainer.accelerator={self.accelerator}", "--trainer.devices=1"]
        shared += ["--trainer.enable_progress_bar=false", "--overlays.num_images=0"]
        if self.steps is not None:
            shared += [f"--trainer.limit_train_batches={self.steps}", "--trainer.limit_val_batches=1"]
            shared += ["--trainer.log_every_n_steps=1"] if subcommand == "fit" else []
            shared += [f"--data.image_size={json.dumps([64, 128])}"]
        return [sys.executable, str(ROOT / "train_net.py"), subcommand, *options, *shared]


@dataclass(frozen=True)
class Metrics:
    """The columns of a run's ``metrics.csv``, without the empty cells."""

    columns: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, root: Path) -> Metrics:
        """Read the newest ``metrics.csv`` below a folder; without a file, there are no columns."""
        files = sorted(root.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
        columns: dict[str, list[float]] = {}
        with files[-1].open() if files else open(os.devnull) as file:
            for row in csv.DictReader(file):
                for name, cell in row.items():
                    if cell:
                        columns.setdefault(name, []).append(float(cell))
        return cls(columns)

    def last(self, name: str) -> float:
        """Return the last value of a column; NaN if it has none."""
        return self.columns.get(name, [float("nan")])[-1]

    def mean_of_last(self, name: str, number: int) -> float:
        """Return the mean of the last values of a column; NaN if it has none."""
        values = self.columns.get(name, [float("nan")])[-number:]
        return sum(values) / len(values)


def fit(name: str, setting: Setting, report: Report, options: Sequence[str]) -> Metrics:
    """Train, and add the logged metrics to the report, also if the training fails or is killed."""
    begin = time.monotonic()
    process = start(setting, "fit", *options, f"--trainer.default_root_dir={setting.folder}/fit")
    try:
        wait(process, setting)
    finally:
        end(process)
        metrics = Metrics.of(setting.folder / "fit")
        figures = {"seconds": time.monotonic() - begin, "exit_code": float(process.returncode)}
        figures |= {key: metrics.last(key) for key in ("epoch", "step", "val/PQ", "val/PQ_things", "val/PQ_stuff")}
        figures |= {key: metrics.last(key) for key in ("train/loss", "train/images_per_s")}
        losses = metrics.columns.get("train/loss", [])
        figures["first_loss"] = losses[0] if losses else float("nan")
        report.add_figures("fit", name, {key: value for key, value in figures.items() if value == value})
    return metrics


def call(setting: Setting, subcommand: str, *options: str) -> float:
    """Run a subcommand to its end and return its duration in seconds."""
    begin = time.monotonic()
    process = start(setting, subcommand, *options)
    try:
        wait(process, setting)
    finally:
        end(process)
    return time.monotonic() - begin


def start(setting: Setting, subcommand: str, *options: str) -> subprocess.Popen[bytes]:
    """Start a subcommand of train_net.py; its output is appended to ``log.txt``."""
    with (setting.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(setting.command(subcommand, *options), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def wait(process: subprocess.Popen[bytes], setting: Setting) -> None:
    """Wait for a process.

    Raises:
        RuntimeError: the process failed; the message holds an error line of its log.
    """
    if code := process.wait():
        raise RuntimeError(f"train_net.py ended with exit code {code}. {error_line(setting)}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process if it still runs."""
    if process.poll() is None:
        process.kill()
        process.wait()


def error_line(setting: Setting) -> str:
    """Print the end of the log and return a sentence with its last error line."""
    text = (setting.folder / "log.txt").read_text(errors="replace")
    print(text[-6000:], file=sys.stderr)
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line] or lines
    return f"Its log says: {errors[-1][:300] if errors else 'nothing'}"
