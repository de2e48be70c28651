"""Kill training runs at random moments, resume them, and compare their end with that of a run that nobody disturbed.

    python tests/acceptance/kills.py --runs 30              SIGKILL: inside a step, between two, in a validation, and
                                                           while a checkpoint is written
    python tests/acceptance/kills.py --runs 30 --signal TERM    SIGTERM, as a scheduler sends it
    python tests/acceptance/kills.py --runs 30 --signal MIXED   Ctrl-C, and stops by max_steps, max_time and max_epochs

Every run is ``train_net.main`` in a process of its own, a small EfficientPS on synthetic scenes with two loading
processes, on the CPU, where resuming is exact. The comparison is bit by bit, over weights, statistics, optimizer,
schedule and best figures. A run has one folder, whose metrics.csv holds each step once, with its loss. The exit code is
that of success only if all runs are identical.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from efficientps.cli import train as train_net  # noqa: E402
from efficientps.synthetic.streets import write_synthetic_cityscapes  # noqa: E402
from efficientps.training.checkpoints.last import INTERRUPTED_EXIT_CODE, PREEMPTED_EXIT_CODE  # noqa: E402
from efficientps.training.checkpoints.read import read_checkpoint  # noqa: E402

PHASES = ("step", "between", "validation", "checkpoint")
"""When a run is killed: inside a step, between two, in a validation, and while a file is written."""

STOPS = ("max_steps", "max_time", "SIGINT", "max_epochs")
"""What stops a run, besides SIGKILL and SIGTERM."""

EVERY_N_STEPS = 5
TOTAL_STEPS = 36
MAX_EPOCHS = 3
_TIMEOUT = 300.0

HEADS: dict[str, dict[str, Any]] = {
    "MaskRCNNHead": {
        "box_hidden": 64,
        "mask_channels": 16,
        "rpn_proposals_train": 100,
        "rpn_proposals_test": 100,
        "box_samples_per_image": 16,
        "max_detections": 20,
    },
    "SOLOv2Head": {
        "num_convs": 1,
        "channels": 32,
        "kernel_channels": 32,
        "mask_hidden": 32,
        "num_grids": [16, 12, 8, 6, 4],
        "max_detections": 20,
    },
}
"""Small ones. Mask R-CNN's draws random numbers in every step, and so does the backbone's stochastic depth."""

CONFIG: dict[str, Any] = {
    "model": {
        "network": {
            "backbone": {"variant": "b0", "pretrained": False, "drop_path_rate": 0.2},
            "neck": {"out_channels": 32},
            "semantic_head": {"channels": 32},
        },
        "channels_last": True,
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        "schedule": {"class_path": "WarmupPlateau", "init_args": {"warmup_iterations": 10, "patience": 0}},
    },
    "data": {"image_size": [64, 128], "batch_size": 2, "num_workers": 2},
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": MAX_EPOCHS,
        "val_check_interval": 0.5,
        "num_sanity_val_steps": 0,
        "gradient_clip_val": 10,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "tests.acceptance.kills.PhaseFile"}],
    },
    "overlays": {"num_images": 0},
    "last_checkpoint": {"every_n_steps": EVERY_N_STEPS},
}


class PhaseFile(Callback):
    """Writes down, in the file that the environment variable ``PHASE_FILE`` names, what the run is about to do."""

    def _note(self, trainer: pl.Trainer, phase: str) -> None:
        with open(os.environ["PHASE_FILE"], "a") as file:
            file.write(f"{phase} {trainer.global_step}\n")

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """A step begins."""
        self._note(trainer, "step")

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """A step has ended."""
        self._note(trainer, "between")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A validation begins."""
        self._note(trainer, "validation")


class Killed(NamedTuple):
    """One run that was killed, or stopped in another way, and resumed."""

    phase: str  # in which it was meant to be killed, or what stopped it first
    kills: int
    steps_lost: int  # the most of all its kills
    exit_codes: tuple[int, ...]
    identical: bool


class Run:
    """A run in a folder of its own."""

    def __init__(self, folder: Path, config: Path, data: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.phase_file = folder / "phases.txt"
        self.arguments = ["fit", "--config", str(config), "--data.root", str(data), "--ckpt_path", "last"]
        self.arguments += ["--trainer.default_root_dir", str(folder / "runs")]

    def start(self, *options: str) -> multiprocessing.process.BaseProcess:
        """Start, or go on from the last checkpoint, with further options."""
        self.phase_file.write_text("")
        # A copy of this process: nothing has to be imported again, which takes longer than the training.
        process = multiprocessing.get_context("fork").Process(target=self._train, args=options)
        process.start()
        return process

    def _train(self, *options: str) -> None:
        with (self.folder / "log.txt").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ["PHASE_FILE"] = str(self.phase_file)
        outcome = train_net.main([*self.arguments, *options])
        sys.exit(outcome if isinstance(outcome, int) else 0)

    def phase(self) -> tuple[str, int]:
        """Return what the run does now, and the number of its steps."""
        if any(self.folder.glob("runs/version_*/checkpoints/*.partial")):
            return "checkpoint", self.steps()
        lines = self.phase_file.read_text().split("\n")[:-1]
        phase, step = lines[-1].split() if lines else ("start", "0")
        return phase, int(step)

    def steps(self) -> int:
        """Return the number of steps that the run has made."""
        lines = self.phase_file.read_text().split("\n")[:-1]
        return int(lines[-1].split()[1]) if lines else 0

    def saved_steps(self) -> int:
        """Return the number of steps in the newest ``last.ckpt``."""
        files = sorted(self.folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        return int(read_checkpoint(files[-1])["global_step"]) if files else 0

    def failure(self, code: int | None) -> str:
        """Return what to say of a run that failed, or that does not end: its last words."""
        words = "\n".join((self.folder / "log.txt").read_text(errors="replace").splitlines()[-5:])
        ending = f"did not end within {_TIMEOUT:.0f} s" if code is None else f"ended with exit code {code}"
        return f"{self.folder.name} {ending}:\n{words}"

    def last(self) -> dict[str, Any]:
        """Return the newest ``last.ckpt``."""
        files = sorted(self.folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        return read_checkpoint(files[-1])

    def losses(self) -> list[tuple[int, float]]:
        """Return step and loss of each row of the training in metrics.csv."""
        (path,) = self.folder.rglob("metrics.csv")
        with path.open() as file:
            return [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]


def kill(run: Run, phase: str, step: int, number: signal.Signals, rng: random.Random) -> tuple[int | None, int]:
    """Start a run, kill it in a phase at a step or later, and return its exit code and the steps that it lost.

    The exit code is ``None`` where the run came to its end first.
    """
    process = run.start()
    deadline = time.monotonic() + _TIMEOUT
    while process.is_alive():
        now, steps = run.phase()
        if now == phase and steps >= step:
            if phase == "step":
                time.sleep(rng.uniform(0, 0.15))
            assert process.pid is not None
            os.kill(process.pid, number)
            process.join(_TIMEOUT)
            if process.is_alive():
                process.kill()
                raise TimeoutError(run.failure(None))
            return process.exitcode, max(0, run.steps() - run.saved_steps())
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(run.failure(None))
        time.sleep(0.003)
    if process.exitcode != 0:
        raise RuntimeError(run.failure(process.exitcode))
    return None, 0


def stop(run: Run, how: str, step: int, seconds: float, rng: random.Random) -> tuple[int | None, int]:
    """Start a run, stop it, and return its exit code and the steps that it lost, as ``kill`` does.

    Args:
        run: the run.
        how: one of ``STOPS``.
        step: the step that it stops after, or close to.
        seconds: duration of a step.
        rng: chooses the phase that Ctrl-C comes in.
    """
    if how == "SIGINT":
        return kill(run, rng.choice(PHASES), step, signal.SIGINT, rng)
    limit = {
        "max_steps": str(step),
        "max_time": f"00:00:00:{max(1, round(step * seconds)):02d}",
        "max_epochs": str(1 + step * MAX_EPOCHS // TOTAL_STEPS),
    }[how]
    finish(run, f"--trainer.{how}", limit)
    done = run.saved_steps()
    return (0, max(0, run.steps() - done)) if done < TOTAL_STEPS else (None, 0)


def finish(run: Run, *options: str) -> None:
    """Run to the end, or to the limit that the options set."""
    process = run.start(*options)
    process.join(_TIMEOUT)
    if process.is_alive():
        process.kill()
        raise TimeoutError(run.failure(None))
    if process.exitcode != 0:
        raise RuntimeError(run.failure(process.exitcode))


def difference(a: Any, b: Any, place: str = "") -> str | None:
    """Return the first place where two checkpoints differ in any bit that matters, ``None`` where they are the same.

    The paths of files and Lightning's notes about resuming are left out.
    """
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
        return None if same else place
    if type(a) is not type(b):
        return place
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return f"{place}: {sorted(map(str, a.keys() ^ b.keys()))}"
        pairs: Iterator[tuple[Any, Any, Any]] = ((key, a[key], b[key]) for key in a)
    elif isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return place
        pairs = ((index, x, y) for index, (x, y) in enumerate(zip(a, b, strict=True)))
    else:
        return None if a == b else place
    return next((found for key, x, y in pairs if (found := difference(x, y, f"{place}/{key}"))), None)


def comparable(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint that must not depend on interruptions."""
    keys = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", "random_states")
    part = {key: checkpoint[key] for key in keys}
    best = [state for name, state in checkpoint["callbacks"].items() if "BestCheckpoints" in name]
    part["best"] = [sorted(float(score) for score in state["best_k_models"].values()) for state in best]
    return part


def kill_test(
    folder: Path, *, runs: int, number: signal.Signals | None, seed: int, head: str = "MaskRCNNHead"
) -> list[Killed]:
    """Kill and resume so many runs, and compare each with the undisturbed one.

    The runs are copies of this process, so it must not have computed with several threads: a copy would wait for
    threads that it lacks.

    Args:
        folder: for data and runs.
        runs: how many.
        number: signal that kills them; ``None`` stops them by each of ``STOPS`` in turn.
        seed: of the moments.
        head: instance head of the network.
    """
    data = folder / "data"
    write_synthetic_cityscapes(data, num_train=24, num_val=4, size=(128, 256), seed=0)
    settings = dict(CONFIG, model=dict(CONFIG["model"]), trainer={**CONFIG["trainer"], "log_every_n_steps": 1})
    instance_head = {"class_path": head, "init_args": HEADS[head]}
    settings["model"]["network"] = {**CONFIG["model"]["network"], "instance_head": instance_head}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    undisturbed = Run(folder / "undisturbed", config, data)
    started = time.monotonic()
    finish(undisturbed)
    seconds = (time.monotonic() - started) / TOTAL_STEPS
    expected = comparable(undisturbed.last())
    rng = random.Random(seed)
    results = []
    for trial in range(runs):
        run = Run(folder / f"run_{trial:03d}", config, data)
        kinds = PHASES if number else STOPS
        kind = kinds[trial % len(kinds)]
        codes, lost, step = [], 0, rng.randrange(1, TOTAL_STEPS - 2)
        for attempt in range(rng.choice((1, 1, 2))):
            if number:
                code, steps = kill(run, kind, step, number, rng)
            else:
                code, steps = stop(run, kind if attempt == 0 else rng.choice(STOPS), step, seconds, rng)
            if code is None:
                break
            codes.append(code)
            lost, step = max(lost, steps), rng.randrange(step, TOTAL_STEPS)
        finish(run)
        where = difference(expected, comparable(run.last())) or log_difference(undisturbed, run)
        results.append(Killed(kind, len(codes), lost, tuple(codes), where is None))
        found = "identical" if where is None else f"DIFFERENT at {where}"
        print(
            f"{trial + 1:3d} {kind:10s} killed {len(codes)}x, exit codes {codes}, {lost} steps lost: {found}",
            flush=True,
        )
    return results


def log_difference(undisturbed: Run, run: Run) -> str | None:
    """Return where the log of a run differs from that of the run that nobody stopped, ``None`` where it does not.

    There is one folder, and in its metrics.csv each step once, in order, with the same loss.
    """
    if len(folders := list((run.folder / "runs").iterdir())) != 1:
        return f"the number of folders, {len(folders)}"
    expected, found = undisturbed.losses(), run.losses()
    if [step for step, _ in expected] != [step for step, _ in found]:
        return "the steps in metrics.csv"
    losses = dict(expected)
    return next((f"the loss of step {step}" for step, loss in found if losses[step] != loss), None)


def table(results: list[Killed], number: signal.Signals | None) -> str:
    """Return a table with a line for each phase, or for each kind of stop."""
    first = number.name if number else "first stop"
    lines = [f"{first:10s} {'runs':>5s} {'kills':>6s} {'identical':>10s} {'most steps lost':>16s}"]
    for phase in (*(PHASES if number else STOPS), "all"):
        some = [result for result in results if phase in (result.phase, "all")]
        same = sum(result.identical for result in some)
        kills, lost = sum(result.kills for result in some), max((result.steps_lost for result in some), default=0)
        lines.append(f"{phase:10s} {len(some):5d} {kills:6d} {same:10d} {lost:16d}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="runs that are killed (30)")
    parser.add_argument("--signal", choices=("KILL", "TERM", "MIXED"), default="KILL", help="what kills them (KILL)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--head", choices=tuple(HEADS), default="MaskRCNNHead", help="instance head (MaskRCNNHead)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    number = None if options.signal == "MIXED" else signal.Signals[f"SIG{options.signal}"]
    with tempfile.TemporaryDirectory() as folder:
        results = kill_test(Path(folder), runs=options.runs, number=number, seed=options.seed, head=options.head)
    print(table(results, number))
    expected_codes = {signal.SIGKILL: {-signal.SIGKILL}, signal.SIGTERM: {PREEMPTED_EXIT_CODE}}
    known = expected_codes[number] if number else {0, INTERRUPTED_EXIT_CODE}
    codes = {code for result in results for code in result.exit_codes}
    return 0 if all(result.identical for result in results) and codes <= known else 1


if __name__ == "__main__":
    sys.exit(main())
