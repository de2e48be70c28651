"""Train a small network in one process, and in two with half the batch each, and compare what comes out.

    python tests/acceptance/processes.py                     both heads, 20 steps in single precision
    python tests/acceptance/processes.py --lr 1e-4           in larger steps, which let rounding grow more

Both start from a network that some steps in one process have trained: at its random start it multiplies the rounding
of a sum by hundreds in a step. The exit code is that of success only if losses, parameters and running statistics all
differ by at most 1e-5. The last two columns give the greatest way that a parameter and a statistic went in these steps,
in the same measure: it must be fifty times as far, or the comparison would say little.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Callback
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from efficientps.networks.efficientps.mask_rcnn.sampling import Sample  # noqa: E402
from efficientps.synthetic.streets import write_synthetic_cityscapes  # noqa: E402
from efficientps.training.checkpoints.read import read_checkpoint  # noqa: E402
from tests.acceptance.kills import CONFIG, HEADS  # noqa: E402

TOLERANCE = 1e-5
JOINT_BATCH = 4
STEPS = 20
_TIMEOUT = 1800.0


class TakesAll:
    """Draws every candidate, in the place of the random draw, which no two processes could make as one does."""

    def __call__(self, labels: list[Tensor]) -> Sample:
        """Return all positive and negative candidates of each image."""
        drawn, positive = [x >= 0 for x in labels], [x >= 1 for x in labels]
        return Sample(
            indices=torch.cat(drawn).nonzero().squeeze(1),
            positives=torch.cat(positive)[torch.cat(drawn)].nonzero().squeeze(1),
            counts=[int(x.sum()) for x in drawn],
            positive_counts=[int(x.sum()) for x in positive],
        )


class ChooseNothing(Callback):
    """Lets a Mask R-CNN head take every anchor and every proposal for its losses.

    Which of many equal ones it draws, or keeps by their scores, hangs on the last bit of numbers that are sums in
    another order on two processes.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace what chooses."""
        head: Any = pl_module.get_submodule("network.instance_head")
        if hasattr(head, "rpn"):
            head.rpn.sampler = head.box_branch.sampler = TakesAll()
            head.rpn.pre_nms_train = head.rpn.post_nms_train = 10**6
            head.rpn.nms_thresh = 1.1


class Training(NamedTuple):
    """What a training leaves behind."""

    state: dict[str, Tensor]
    losses: list[float]  # of each step
    checkpoint: Path


def train(
    folder: Path,
    *,
    head: str,
    root: Path,
    devices: int = 1,
    steps: int = STEPS,
    precision: str = "64-true",
    lr: float = 1e-5,
    init_from: Path | None = None,
) -> Training:
    """Train without any random number in the steps, in processes of their own that share the joint batch.

    Args:
        folder: made for the run.
        head: instance head of the network.
        root: data.
        devices: processes.
        steps: of the training.
        precision: Lightning's.
        lr: learning rate of SGD, after five steps of warm-up.
        init_from: checkpoint to start from; random weights if not given.
    """
    model = {
        "network": _network(head),
        "optimizer": {"class_path": "SGD", "init_args": {"lr": lr}},
        "init_from": None if init_from is None else str(init_from),
    }
    trainer = {
        "devices": devices,
        "strategy": "ddp" if devices > 1 else "auto",
        "precision": precision,
        "callbacks": [{"class_path": "tests.acceptance.processes.ChooseNothing"}],
    }
    return _run(folder, root, model, trainer, steps)


def warm_up(folder: Path, *, head: str, root: Path, steps: int, lr: float = 3e-3) -> Training:
    """Train from random weights with AdamW, as one does."""
    model = {
        "network": _network(head),
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": lr}},
    }
    return _run(folder, root, model, {"devices": 1, "precision": "32-true"}, steps)


def _network(head: str) -> dict[str, Any]:
    return {
        **CONFIG["model"]["network"],
        "backbone": {"variant": "b0", "pretrained": False},
        "instance_head": {"class_path": head, "init_args": HEADS[head]},
    }


def _run(folder: Path, root: Path, model: dict[str, Any], trainer: dict[str, Any], steps: int) -> Training:
    schedule = {"class_path": "WarmupSteps", "init_args": {"warmup_iterations": 5}}
    settings = {
        "model": {**model, "schedule": schedule, "channels_last": True},
        "data": {
            "root": str(root),
            "image_size": [64, 128],
            "batch_size": JOINT_BATCH // trainer["devices"],
            "num_workers": 0,
        },
        "trainer": {
            **trainer,
            "accelerator": "cpu",
            "max_steps": steps,
            "limit_val_batches": 0,
            "log_every_n_steps": 1,
            "gradient_clip_val": 10,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(folder),
        },
        "overlays": {"num_images": 0},
    }
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(ROOT / "train_net.py"), "fit", "--config", str(config)]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(words, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False, timeout=_TIMEOUT)
    if done.returncode != 0:
        last_words = "\n".join((folder / "log.txt").read_text(errors="replace").splitlines()[-5:])
        raise RuntimeError(f"The training in '{folder}' ended with exit code {done.returncode}:\n{last_words}")
    with (folder / "version_0/metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    (last,) = folder.rglob("last.ckpt")
    return Training(read_checkpoint(last)["state_dict"], losses, last)


def greatest_difference(one: dict[str, Tensor], two: dict[str, Tensor], *, of_statistics: bool) -> float:
    """Return the greatest difference in two networks' running statistics, or in all else, by 1 + the number."""
    shares = [
        ((value - two[name]).abs() / (1 + value.abs())).max()
        for name, value in one.items()
        if value.is_floating_point() and ("running_" in name) == of_statistics
    ]
    return float(torch.stack(shares).max())  # which is NaN where any is


class Difference(NamedTuple):
    """The greatest differences of two trainings, as shares of the loss, and of 1 + the number in the tensors."""

    losses: float
    parameters: float
    statistics: float

    @classmethod
    def between(cls, one: Training, two: Training) -> Difference:
        """Compare two trainings of the same steps, tensor by tensor."""
        if len(one.losses) != len(two.losses):
            raise ValueError(f"The trainings have {len(one.losses)} and {len(two.losses)} steps; compare as many.")
        losses, others = (torch.tensor(training.losses, dtype=torch.float64) for training in (one, two))
        parameters, statistics = (greatest_difference(one.state, two.state, of_statistics=x) for x in (False, True))
        return cls(float(((losses - others) / losses).abs().max()), parameters, statistics)

    @property
    def is_allowed(self) -> bool:
        """Whether all are within what rounding makes of them."""
        return all(share <= TOLERANCE for share in self)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", nargs="+", choices=tuple(HEADS), default=list(HEADS), help="instance heads (both)")
    parser.add_argument("--warm-up", type=int, default=500, help="steps that train the network first (500)")
    parser.add_argument("--lr", type=float, default=5e-5, help="learning rate of the compared steps (5e-5)")
    options = parser.parse_args(arguments)
    print(f"{'':38s} {'differences':^33s} {'ways':^23s}")
    titles = ("first loss", "last loss", "losses", "parameters", "statistics", "parameters", "statistics")
    print(f"{'head':14s}", *(f"{title:>11s}" for title in titles))
    is_allowed = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic_cityscapes(folder / "data", num_train=24, num_val=4, size=(128, 256), seed=0)
        for head in options.heads:
            both: dict[str, Any] = {"head": head, "root": folder / "data"}
            start = warm_up(folder / f"{head}_start", steps=options.warm_up, **both)
            both |= {"init_from": start.checkpoint, "lr": options.lr, "precision": "32-true"}
            one, two = (train(folder / f"{head}_{devices}", devices=devices, **both) for devices in (1, 2))
            difference = Difference.between(one, two)
            ways = [greatest_difference(start.state, one.state, of_statistics=x) for x in (False, True)]
            is_allowed &= difference.is_allowed and min(ways) >= 50 * TOLERANCE
            losses = (f"{loss:11.6f}" for loss in (one.losses[0], one.losses[-1]))
            print(f"{head:14s}", *losses, *(f"{share:11.1e}" for share in (*difference, *ways)), flush=True)
    return 0 if is_allowed else 1


if __name__ == "__main__":
    sys.exit(main())
