"""Two processes with a batch of two train as one with a batch of four."""

import os
import subprocess
import sys

import pytest
import torch
import yaml
from pytorch_lightning.callbacks import Callback

import train_net
from efficientps.training.checkpoint import read_checkpoint
from scripts.kill_test import CONFIG, HEADS
from tests.command_line import column


class TakesAll:
    """Draws every candidate, in the place of the random draw, which no two processes could make as one does."""

    def __call__(self, labels):
        return [torch.where(x >= 1, 1, 0) for x in labels], [torch.where(x == 0, 1, 0) for x in labels]


class ChooseNothing(Callback):
    """Lets a Mask R-CNN head take every anchor and every proposal for its losses.

    Which of many equal ones it draws, or keeps by their scores, hangs on the last bit of numbers that are sums in
    another order on two processes.
    """

    def on_fit_start(self, trainer, pl_module):
        head = pl_module.network.instance_head
        if hasattr(head, "rpn"):
            head.rpn.sampler = head.box_branch.sampler = TakesAll()
            head.rpn.pre_nms_train = head.rpn.post_nms_train = 10**6
            head.rpn.nms_thresh = 1.1


def settings(head, root, folder, *, devices, batch_size, lr=1e-5, max_steps=20):
    """Return the configuration of a small network without any random number in its steps."""
    network = {**CONFIG["model"]["network"], "instance_head": {"class_path": head, "init_args": HEADS[head]}}
    network["backbone"] = {"variant": "b0", "pretrained": False}
    return {
        "model": {
            "network": network,
            "channels_last": True,
            "optimizer": {"class_path": "SGD", "init_args": {"lr": lr}},
            "schedule": {"class_path": "WarmupSteps", "init_args": {"warmup_iterations": 5}},
        },
        "data": {"root": str(root), "image_size": [64, 128], "batch_size": batch_size, "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": devices,
            "strategy": "ddp" if devices > 1 else "auto",
            "precision": "64-true",
            "max_steps": max_steps,
            "limit_val_batches": 0,
            "log_every_n_steps": 1,
            "gradient_clip_val": 10,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(folder),
            "callbacks": [{"class_path": f"{__name__}.ChooseNothing"}],
        },
        "overlays": {"num_images": 0},
    }


def train(folder, **choices):
    """Train in processes of their own; return the final state of the network and the loss of each step."""
    folder.mkdir()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings(folder=folder, **choices)))
    root = train_net.DEFAULT_CONFIG.parent
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, train_net.__file__, "fit", "--config", str(config)]
    subprocess.run(words, cwd=root, env=environment, check=True, timeout=900)
    (last,) = folder.rglob("last.ckpt")
    return read_checkpoint(last)["state_dict"], column(folder / "version_0/metrics.csv", "train/loss")


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(HEADS))
def test_two_processes_are_one_with_the_joint_batch(head, synthetic_root, tmp_path):
    """Oracle: one process; how far 20 steps have moved each weight and running statistic, and the loss of each step.

    In double precision and in small steps: this network, at its random start, multiplies a difference in the last bit
    by hundreds in a step of ordinary size.
    """
    both = {"head": head, "root": synthetic_root}
    start, _ = train(tmp_path / "start", devices=1, batch_size=4, lr=0.0, max_steps=1, **both)
    joint, joint_losses = train(tmp_path / "one", devices=1, batch_size=4, **both)
    shared, shared_losses = train(tmp_path / "two", devices=2, batch_size=2, **both)
    assert len(joint_losses) == len(shared_losses) == 20
    torch.testing.assert_close(shared_losses, joint_losses, rtol=1e-5, atol=0)
    moved = {name: float((value - start[name]).norm()) for name, value in joint.items()}
    # A bias before another norm has no gradient: it moves by rounding alone.
    moving = [name for name, distance in moved.items() if distance > 1e-9 * max(moved.values())]
    differences = {name: float((shared[name] - joint[name]).norm()) / moved[name] for name in moving}
    worst = max(differences, key=lambda name: differences[name])
    print(
        f"{head}: {len(moving)} of {len(joint)} tensors moved; {worst} differs by {differences[worst]:.1e} of its way"
    )
    assert len(moving) > 0.9 * len(joint)
    assert differences[worst] < 1e-5
    for name in joint.keys() - set(moving):
        torch.testing.assert_close(shared[name], joint[name], rtol=0, atol=1e-12)
