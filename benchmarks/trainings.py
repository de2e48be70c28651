"""``fit``: whole trainings by train_net.py: what they learn, how fast, and whether they go on after SIGTERM."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.report import Bar, Report
from efficientps.training.checkpoints.last import PREEMPTED_EXIT_CODE

ROOT = Path(__file__).resolve().parents[1]

PQ_OF_THE_CPU = 0.484
"""Panoptic quality of configs/demo.yaml, trained on a CPU in fp32."""

PQ_WITHIN = 0.03
"""How far below it a training in half precision may end."""

RESUME_SLACK = 0.05
"""Share of the loss by which a resumed run may differ beyond twice the difference of two plain runs."""


@dataclass(frozen=True)
class Setting:
    """Where and how large trainings run.

    Attributes:
        scenes: a synthetic Cityscapes tree.
        folder: of the runs; each training makes its own in it.
        accelerator: ``cpu`` or ``cuda``.
        workers: processes that load data.
        steps: largest number of training batches of an epoch; ``None`` means all of them, and that bars are set.
    """

    scenes: Path
    folder: Path
    accelerator: str
    workers: int
    steps: int | None

    def command(self, subcommand: str, *options: str) -> list[str]:
        """Return the command line of train_net.py for a subcommand, with what all trainings share."""
        shared = [f"--data.root={self.scenes}", f"--data.num_workers={self.workers}"]
        shared += [f"--trainer.accelerator={self.accelerator}", "--trainer.devices=1"]
        shared += ["--trainer.enable_progress_bar=false", "--overlays.num_images=0"]
        if self.steps is not None:
            shared += [f"--trainer.limit_train_batches={self.steps}", "--trainer.limit_val_batches=1"]
            shared += ["--trainer.log_every_n_steps=1"] if subcommand == "fit" else []
            shared += [f"--data.image_size={json.dumps([64, 128])}"]
        return [sys.executable, str(ROOT / "train_net.py"), subcommand, *options, *shared]


def run(
    *,
    names: Sequence[str],
    scenes: Path,
    folder: Path,
    device: str = "cpu",
    workers: int = 8,
    steps: int | None = None,
    file: Path | None = None,
) -> Report:
    """Run trainings one after the other; what one has logged counts even if it is ended before its end.

    Args:
        names: keys of ``TRAININGS``.
        scenes: a synthetic Cityscapes tree.
        folder: for the runs and their logs.
        device: ``cpu`` or ``cuda``.
        workers: processes that load data.
        steps: largest number of training batches of an epoch, for a trial: bars are set for whole trainings alone.
        file: see ``Report``.

    Raises:
        ValueError: if there is no such training.
    """
    if unknown := set(names) - TRAININGS.keys():
        raise ValueError(f"There is no training '{min(unknown)}'; the trainings are {', '.join(TRAININGS)}.")
    report = Report("fit", {"names": list(names), "device": device, "steps": steps}, file=file)
    for name in names:
        setting = Setting(scenes.absolute(), folder.absolute() / name, device, workers, steps)
        setting.folder.mkdir(parents=True, exist_ok=True)
        with report.side(name):
            TRAININGS[name](name, setting, report)
    return report


# ------------------------------------------------------------------------------- trainings


def _demo(precision: str, norms: str) -> Callable[[str, Setting, Report], None]:
    """Return the training of configs/demo.yaml as a whole, with its panoptic quality."""

    def train(name: str, setting: Setting, report: Report) -> None:
        options = [*_demo_options(precision), f"--model.network.norm_implementation={norms}"]
        epochs = 10 if setting.steps is None else 1
        options += [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
        metrics = _fit(name, setting, report, options)
        if setting.steps is None:
            claim = f"{name}: PQ, within {PQ_WITHIN} of the CPU's {PQ_OF_THE_CPU}"
            report.bars.append(Bar(claim, metrics.last("val/PQ"), ">=", PQ_OF_THE_CPU - PQ_WITHIN))

    return train


def _short(name: str, setting: Setting, report: Report) -> None:
    """Train three epochs in 16-mixed; validate and predict from the checkpoint."""
    epochs = 3 if setting.steps is None else 1
    options = [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
    metrics = _fit(name, setting, report, _demo_options("16-mixed") + options)
    _add_loss_bar(name, setting, report, metrics)
    checkpoint = next(setting.folder.rglob("last.ckpt"))
    with report.side(f"{name}, validate"):
        seconds = _call(
            setting, "validate", f"--ckpt_path={checkpoint}", f"--trainer.default_root_dir={setting.folder}/val"
        )
        found = json.loads(next((setting.folder / "val").rglob("evaluation/*.json")).read_text())
        quality = _quality(found)
        report.add_figures("validate from the checkpoint", name, {"seconds": seconds, "PQ": quality})
        if quality is not None:
            difference = abs(quality - metrics.last("val/PQ"))
            report.bars.append(Bar(f"{name}: difference of PQ after loading", difference, "<=", 1e-3))
    with report.side(f"{name}, predict"):
        output = setting.folder / "predictions"
        options = ["--data.predict_path=val", f"--predictions.output_dir={output}"]
        options.append(f"--trainer.default_root_dir={setting.folder}/predict")
        seconds = _call(setting, "predict", f"--ckpt_path={checkpoint}", *options)
        images = sum(path.is_file() for path in output.rglob("*.png"))
        report.add_figures("predict from the checkpoint", name, {"seconds": seconds, "pictures": images})
        report.bars.append(Bar(f"{name}: pictures that predict wrote", images, ">=", 1))


def _one_epoch(config: str, changes: Mapping[str, object]) -> Callable[[str, Setting, Report], None]:
    """Return a training of one epoch, whose loss must fall."""

    def train(name: str, setting: Setting, report: Report) -> None:
        path = setting.folder / "changes.yaml"
        path.write_text(yaml.safe_dump(dict(changes)))
        options = [f"--config={ROOT / config}", f"--config={path}", "--trainer.precision=bf16-mixed"]
        options += ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--trainer.log_every_n_steps=5"]
        _add_loss_bar(name, setting, report, _fit(name, setting, report, options))

    return train


def _resume(name: str, setting: Setting, report: Report) -> None:
    """End a run by SIGTERM, resume it, and compare its last losses with those of two plain runs."""
    options = [*_demo_options("bf16-mixed"), "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=2"]
    options += ["--trainer.log_every_n_steps=5"]
    if setting.steps is None:
        options += ["--trainer.limit_train_batches=40", "--last_checkpoint.every_n_steps=10"]
    else:
        options.append("--last_checkpoint.every_n_steps=1")
    roots = {run: setting.folder / run for run in ("plain 1", "plain 2", "resumed")}
    runs = {run: _start(setting, "fit", *options, f"--trainer.default_root_dir={root}") for run, root in roots.items()}
    try:
        process = runs["resumed"]
        while process.poll() is None and not list(roots["resumed"].rglob("last.ckpt")):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        code = process.wait()
        if code != PREEMPTED_EXIT_CODE:
            raise RuntimeError(f"The run that got SIGTERM ended with exit code {code}. {_last_words(setting)}")
        report.add_figures("SIGTERM", name, {"exit_code": code})
        again = [*options, "--ckpt_path=last", f"--trainer.default_root_dir={roots['resumed']}"]
        runs["resumed"] = _start(setting, "fit", *again)
        for process in runs.values():
            _wait(process, setting)
    finally:
        for process in runs.values():
            _end(process)
        metrics = {run: Metrics.of(root) for run, root in roots.items()}
        # A resumed run has logged the steps since its checkpoint alone.
        number = min(4, *(len(columns.columns.get("train/loss", ())) for columns in metrics.values()))
        losses = {run: found.mean_of_last("train/loss", max(1, number)) for run, found in metrics.items()}
        report.add_figures(f"mean of the last {number} losses", name, losses)
    first, second, resumed = losses.values()
    limit = 2 * abs(first - second) + RESUME_SLACK * abs(first)
    report.bars.append(
        Bar(f"{name}: difference of the last losses from a plain run", abs(resumed - first), "<=", limit)
    )


def _demo_options(precision: str) -> list[str]:
    return [f"--config={ROOT / 'configs/demo.yaml'}", f"--trainer.precision={precision}"]


_SMALL_DETR: dict[str, object] = {
    # From random weights: everything learns, norms too.
    "model": {
        "network": {
            "class_path": "DETRPanoptic",
            "init_args": {
                "step": "joint",
                "backbone": {"variant": "resnet10t", "pretrained": False, "frozen_stages": 0, "frozen_norms": False},
                "detector": {
                    "channels": 128,
                    "feed_forward": 256,
                    "encoder_layers": 1,
                    "decoder_layers": 3,
                    "num_queries": 80,
                    "dropout": 0,
                },
            },
        },
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3, "weight_decay": 1e-4}},
        "schedule": {"class_path": "WarmupDecay", "init_args": {"warmup_iterations": 20}},
        "backbone_lr_factor": 1,
    },
    "data": {"image_size": [160, 320], "batch_size": 4},
    "trainer": {"gradient_clip_val": 1, "num_sanity_val_steps": 0},
}

TRAININGS: dict[str, Callable[[str, Setting, Report], None]] = {
    "demo_bf16": _demo("bf16-mixed", "in_place"),
    "demo_fp16": _demo("16-mixed", "in_place"),
    "demo_bf16_triton": _demo("bf16-mixed", "triton"),
    "demo_fp16_short": _short,
    "solov2": _one_epoch("configs/demo_solov2.yaml", {"trainer": {"num_sanity_val_steps": 0}}),
    "detr": _one_epoch("configs/detr_panoptic_joint.yaml", _SMALL_DETR),
    "resume": _resume,
}
"""What can be trained."""


# --------------------------------------------------------------------------------- metrics


@dataclass(frozen=True)
class Metrics:
    """The columns of the ``metrics.csv`` of a run, without the empty cells."""

    columns: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, root: Path) -> Metrics:
        """Read the files of the newest version below a folder; nothing if there is none yet."""
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


def _add_loss_bar(name: str, setting: Setting, report: Report, metrics: Metrics) -> None:
    losses = metrics.columns.get("train/loss", [])
    if setting.steps is None:
        share = metrics.mean_of_last("train/loss", 4) / losses[0] if losses else float("nan")
        report.bars.append(Bar(f"{name}: last losses as a share of the first", share, "<=", 0.9))


def _quality(found: object) -> float | None:
    """Return the panoptic quality of an evaluation as it was written."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key in ("PQ", "pq", "val/PQ") and isinstance(value, float):
                return value
            if (inner := _quality(value)) is not None:
                return inner
    return None


# ------------------------------------------------------------------------------- processes


def _fit(name: str, setting: Setting, report: Report, options: Sequence[str]) -> Metrics:
    """Train, and add what was logged, even if the training fails or is ended."""
    begin = time.monotonic()
    process = _start(setting, "fit", *options, f"--trainer.default_root_dir={setting.folder}/fit")
    try:
        _wait(process, setting)
    finally:
        _end(process)
        metrics = Metrics.of(setting.folder / "fit")
        figures = {"seconds": time.monotonic() - begin, "exit_code": float(process.returncode)}
        figures |= {key: metrics.last(key) for key in ("epoch", "step", "val/PQ", "val/PQ_things", "val/PQ_stuff")}
        figures |= {key: metrics.last(key) for key in ("train/loss", "train/images_per_s")}
        losses = metrics.columns.get("train/loss", [])
        figures["first_loss"] = losses[0] if losses else float("nan")
        report.add_figures("fit", name, {key: value for key, value in figures.items() if value == value})
    return metrics


def _call(setting: Setting, subcommand: str, *options: str) -> float:
    """Run a subcommand to its end; return the seconds that it took."""
    begin = time.monotonic()
    process = _start(setting, subcommand, *options)
    try:
        _wait(process, setting)
    finally:
        _end(process)
    return time.monotonic() - begin


def _start(setting: Setting, subcommand: str, *options: str) -> subprocess.Popen[bytes]:
    with (setting.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(setting.command(subcommand, *options), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def _wait(process: subprocess.Popen[bytes], setting: Setting) -> None:
    if code := process.wait():
        raise RuntimeError(f"train_net.py ended with exit code {code}. {_last_words(setting)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what still runs."""
    if process.poll() is None:
        process.kill()
        process.wait()


def _last_words(setting: Setting) -> str:
    text = (setting.folder / "log.txt").read_text(errors="replace")
    print(text[-6000:], file=sys.stderr)
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line] or lines
    return f"Its log says: {errors[-1][:300] if errors else 'nothing'}"
