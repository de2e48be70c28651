"""Train for thousands of steps on small data, and watch that neither memory nor the number of open files grows.

    python tests/acceptance/soak.py                     3000 steps of a small EfficientPS
    python tests/acceptance/soak.py --head SOLOv2Head

Prints what the training process and its two loading processes hold every 300 steps. The exit code is that of success
only if the resident memory at the end is within 2 % of that at step 300, and the number of open files the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytorch_lightning as pl
import yaml
from pytorch_lightning.callbacks import Callback

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from efficientps.cli import train as train_net  # noqa: E402
from efficientps.synthetic.streets import write_synthetic_cityscapes  # noqa: E402
from tests.acceptance.kills import CONFIG, HEADS  # noqa: E402

TOLERANCE = 0.02


class Use(NamedTuple):
    """What the processes of a run hold after so many steps."""

    step: int
    resident: int  # bytes of the training process
    loaders: int  # bytes of the loading processes together, what they share with the former included
    files: int  # open in all of them

    def __str__(self) -> str:
        """A line of the table."""
        return f"{self.step:6d} {self.resident / 2**20:13.1f} {self.loaders / 2**20:12.1f} {self.files:11d}"


class Watch(Callback):
    """Notes and prints the use of memory and files.

    Args:
        interval: steps from one look to the next.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.uses: list[Use] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Look, where it is time."""
        if trainer.global_step % self.interval == 0:
            process = psutil.Process()
            loaders = process.children()
            resident, *others = (one.memory_info().rss for one in (process, *loaders))
            files = sum(one.num_fds() for one in (process, *loaders))
            self.uses.append(Use(trainer.global_step, resident, sum(others), files))
            print(self.uses[-1], flush=True)


def soak(folder: Path, *, steps: int, interval: int, head: str) -> list[Use]:
    """Train with validations and checkpoints all along, and return what was held.

    Args:
        folder: for data and run.
        steps: of the training.
        interval: steps from one look to the next.
        head: instance head of the network.
    """
    write_synthetic_cityscapes(folder / "data", num_train=24, num_val=4, size=(128, 256), seed=0)
    network = {**CONFIG["model"]["network"], "instance_head": {"class_path": head, "init_args": HEADS[head]}}
    trainer = {
        **CONFIG["trainer"],
        "max_epochs": -1,
        "max_steps": steps,
        "val_check_interval": max(1, interval // 3),
        "check_val_every_n_epoch": None,
        "callbacks": [{"class_path": "tests.acceptance.soak.Watch", "init_args": {"interval": interval}}],
    }
    settings = {**CONFIG, "model": {**CONFIG["model"], "network": network}, "trainer": trainer}
    settings["last_checkpoint"] = {"every_n_steps": max(1, interval // 3)}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["fit", "--config", str(folder / "config.yaml"), "--data.root", str(folder / "data")]
    run = train_net.main([*arguments, "--trainer.default_root_dir", str(folder / "runs")])
    if isinstance(run, int):
        raise RuntimeError(f"The training ended with exit code {run}.")
    return next(callback.uses for callback in run.trainer.callbacks if hasattr(callback, "uses"))


class Growth(NamedTuple):
    """What has changed from the first look to the last."""

    resident: float  # share of the training process's memory
    files: int

    @classmethod
    def between(cls, first: Use, last: Use) -> Growth:
        """Compare two looks."""
        return cls(last.resident / first.resident - 1, last.files - first.files)

    @property
    def is_allowed(self) -> bool:
        """Whether memory has stayed within 2 %, and files are neither lost nor left open."""
        return abs(self.resident) <= TOLERANCE and self.files == 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="of the training (3000)")
    parser.add_argument("--interval", type=int, default=300, help="steps from one look to the next (300)")
    parser.add_argument("--head", choices=tuple(HEADS), default="MaskRCNNHead", help="instance head (MaskRCNNHead)")
    options = parser.parse_args(arguments)
    print(f"{'step':>6s} {'resident MiB':>13s} {'loaders MiB':>12s} {'open files':>11s}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        uses = soak(Path(folder), steps=options.steps, interval=options.interval, head=options.head)
    growth = Growth.between(uses[0], uses[-1])
    resident, files = f"{100 * growth.resident:+.2f} %", f"{growth.files:+d}"
    print(f"From step {uses[0].step} to {uses[-1].step}: memory {resident}, open files {files}.")
    return 0 if growth.is_allowed else 1


if __name__ == "__main__":
    sys.exit(main())
