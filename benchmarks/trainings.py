"""``fit``: whole trainings by train_net.py: their quality and speed, and whether they resume after SIGTERM."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from benchmarks.report import Bar, Report
from benchmarks.small_networks import small_detr_arguments
from benchmarks.training_runs import ROOT, Metrics, Setting, call, end, error_line, fit, start, wait
from efficientps.training.checkpoints.last import PREEMPTED_EXIT_CODE

PQ_OF_THE_CPU = 0.484
"""Panoptic quality of configs/demo.yaml, trained on a CPU in fp32."""

PQ_WITHIN = 0.03
"""Largest loss of panoptic quality of a training in half precision."""

RESUME_SLACK = 0.05
"""Share of the loss that a resumed run may differ by, in addition to twice the difference of two plain runs."""


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
    """Run trainings one after the other; the metrics of an interrupted training are reported as well.

    Args:
        names: keys of ``TRAININGS``.
        scenes: a synthetic Cityscapes tree.
        folder: parent folder of the runs and their logs.
        device: ``cpu`` or ``cuda``.
        workers: processes that load data.
        steps: largest number of training batches of an epoch, for a trial; bars are set for whole trainings only.
        file: file that ``Report`` writes.

    Raises:
        ValueError: if a training is unknown.
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
    """Return the whole training of configs/demo.yaml, with a bar for its panoptic quality."""

    def train(name: str, setting: Setting, report: Report) -> None:
        options = [*_demo_options(precision), f"--model.network.norm_implementation={norms}"]
        epochs = 10 if setting.steps is None else 1
        options += [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
        metrics = fit(name, setting, report, options)
        if setting.steps is None:
            claim = f"{name}: PQ, within {PQ_WITHIN} of the CPU's {PQ_OF_THE_CPU}"
            report.bars.append(Bar(claim, metrics.last("val/PQ"), ">=", PQ_OF_THE_CPU - PQ_WITHIN))

    return train


def _short(name: str, setting: Setting, report: Report) -> None:
    """Train three epochs in 16-mixed; validate and predict from the checkpoint."""
    epochs = 3 if setting.steps is None else 1
    options = [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]
    metrics = fit(name, setting, report, _demo_options("16-mixed") + options)
    _add_loss_bar(name, setting, report, metrics)
    checkpoint = next(setting.folder.rglob("last.ckpt"))
    with report.side(f"{name}, validate"):
        seconds = call(
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
        seconds = call(setting, "predict", f"--ckpt_path={checkpoint}", *options)
        images = sum(path.is_file() for path in output.rglob("*.png"))
        report.add_figures("predict from the checkpoint", name, {"seconds": seconds, "pictures": images})
        report.bars.append(Bar(f"{name}: pictures that predict wrote", images, ">=", 1))


def _one_epoch(config: str, changes: Mapping[str, object]) -> Callable[[str, Setting, Report], None]:
    """Return a training of one epoch, with a bar that requires its loss to fall."""

    def train(name: str, setting: Setting, report: Report) -> None:
        path = setting.folder / "changes.yaml"
        path.write_text(yaml.safe_dump(dict(changes)))
        options = [f"--config={ROOT / config}", f"--config={path}", "--trainer.precision=bf16-mixed"]
        options += ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--trainer.log_every_n_steps=5"]
        _add_loss_bar(name, setting, report, fit(name, setting, report, options))

    return train


def _resume(name: str, setting: Setting, report: Report) -> None:
    """Stop a run with SIGTERM, resume it, and compare its last losses with those of two uninterrupted runs."""
    options = [*_demo_options("bf16-mixed"), "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=2"]
    options += ["--trainer.log_every_n_steps=5"]
    if setting.steps is None:
        options += ["--trainer.limit_train_batches=40", "--last_checkpoint.every_n_steps=10"]
    else:
        options.append("--last_checkpoint.every_n_steps=1")
    roots = {run: setting.folder / run for run in ("plain 1", "plain 2", "resumed")}
    runs = {run: start(setting, "fit", *options, f"--trainer.default_root_dir={root}") for run, root in roots.items()}
    try:
        process = runs["resumed"]
        while process.poll() is None and not list(roots["resumed"].rglob("last.ckpt")):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        code = process.wait()
        if code != PREEMPTED_EXIT_CODE:
            raise RuntimeError(f"The run that got SIGTERM ended with exit code {code}. {error_line(setting)}")
        report.add_figures("SIGTERM", name, {"exit_code": code})
        again = [*options, "--ckpt_path=last", f"--trainer.default_root_dir={roots['resumed']}"]
        runs["resumed"] = start(setting, "fit", *again)
        for process in runs.values():
            wait(process, setting)
    finally:
        for process in runs.values():
            end(process)
        metrics = {run: Metrics.of(root) for run, root in roots.items()}
        # A resumed run has logged only the steps since its checkpoint.
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
    "model": {
        "network": {
            "class_path": "DETRPanoptic",
            "init_args": {"step": "joint", **small_detr_arguments(num_queries=80)},
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
"""The trainings, by name."""


def _add_loss_bar(name: str, setting: Setting, report: Report, metrics: Metrics) -> None:
    losses = metrics.columns.get("train/loss", [])
    if setting.steps is None:
        share = metrics.mean_of_last("train/loss", 4) / losses[0] if losses else float("nan")
        report.bars.append(Bar(f"{name}: last losses as a share of the first", share, "<=", 0.9))


def _quality(found: object) -> float | None:
    """Return the panoptic quality from the JSON of an evaluation."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key in ("PQ", "pq", "val/PQ") and isinstance(value, float):
                return value
            if (inner := _quality(value)) is not None:
                return inner
    return None
