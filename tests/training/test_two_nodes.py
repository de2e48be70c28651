"""Two nodes, which are two torchrun agents of one machine here; one of them dies in the middle of a run."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from pytorch_lightning.callbacks import Callback

from efficientps.cli.arguments import DEFAULT_CONFIG
from efficientps.training.checkpoints.read import read_checkpoint
from tests.acceptance.kills import comparable, difference
from tests.command_line import write_config
from tests.training.checkpoints.test_last import OPTIONS

TIMEOUT = 240


class Death(Callback):
    """Ends a node without a word, its agent first.

    Args:
        rank: of the process whose node dies.
        step: number of steps made by then.
    """

    def __init__(self, rank: int, step: int):
        self.rank, self.step = rank, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if "DEATH" in os.environ and (trainer.global_rank, trainer.global_step) == (self.rank, self.step):
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


def two_nodes(folder, config, *options, **variables):
    """Train with one process on each of two nodes; return exit codes and stderr of both."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    root = DEFAULT_CONFIG.parent
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"} | variables
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    words += ["--rdzv_backend", "c10d", "--rdzv_id", "run", "--rdzv_endpoint", f"localhost:{port}"]
    words += [
        str(DEFAULT_CONFIG.with_name("train_net.py")),
        "fit",
        "--config",
        str(config),
        "--trainer.default_root_dir",
        str(folder),
    ]
    words += ["--trainer.num_nodes", "2", "--trainer.strategy", "ddp", "--ckpt_path", "last"]
    words += [str(option) for option in (*OPTIONS, *options)]
    nodes = [
        subprocess.Popen(words, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        errors = [node.communicate(timeout=TIMEOUT)[1] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    return [node.returncode for node in nodes], errors


def newest(folder):
    return read_checkpoint(max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_other_node_ends_and_both_go_on(cityscapes_root, tmp_path, rank):
    """Oracle: two nodes that nothing happens to."""
    config = write_config(tmp_path, cityscapes_root)
    codes, errors = two_nodes(tmp_path / "whole", config)
    assert codes == [0, 0], errors
    death = ["--trainer.callbacks+=tests.training.test_two_nodes.Death"]
    death += [f"--trainer.callbacks.rank={rank}", "--trainer.callbacks.step=6"]
    codes, errors = two_nodes(tmp_path / "runs", config, *death, DEATH="1")
    assert sorted(codes) == [-signal.SIGKILL, 1]
    survivor = errors[codes.index(1)]
    print(survivor)
    sentences = [line for line in survivor.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1
    assert "--ckpt_path last" in sentences[0]
    codes, errors = two_nodes(tmp_path / "runs", config, *death)
    assert codes == [0, 0], errors
    assert difference(comparable(newest(tmp_path / "whole")), comparable(newest(tmp_path / "runs"))) is None
