"""Two nodes, which are two torchrun agents of one machine here; one of them dies in the middle of a run."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

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
    # Every address is local: no answer of a name server is waited for.
    addresses = {"GLOO_SOCKET_IFNAME": "lo", "PYTHONFAULTHANDLER": "1"}
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"} | addresses | variables
    words = [str(DEFAULT_CONFIG.with_name("train_net.py")), "fit", "--config", str(config)]
    words += ["--trainer.default_root_dir", str(folder), "--trainer.num_nodes", "2", "--trainer.strategy", "ddp"]
    words += ["--ckpt_path", "last", *map(str, OPTIONS), *map(str, options)]
    folder.mkdir(exist_ok=True)
    logs = [folder / f"stderr_{rank}.txt" for rank in range(2)]
    nodes = []
    for rank, log in enumerate(logs):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)]
        torchrun += ["--nproc_per_node", "1", "--master_addr", "localhost", "--master_port", str(port)]
        with log.open("w") as file:
            streams = {"stdout": subprocess.DEVNULL, "stderr": file}
            nodes.append(subprocess.Popen([*torchrun, *words], cwd=root, env=environment, **streams))
    try:
        deadline = time.monotonic() + TIMEOUT
        codes = [node.wait(max(1, deadline - time.monotonic())) for node in nodes]
    except subprocess.TimeoutExpired:
        ask_where_they_are(nodes)
        pytest.fail("Two nodes hang:\n" + "\n".join(log.read_text()[-8000:] for log in logs))
    finally:
        for node in nodes:
            node.kill()
    return codes, [log.read_text() for log in logs]


def ask_where_they_are(nodes):
    """End the processes of the nodes with the signal on which Python's faulthandler writes their stacks."""
    for node in nodes:
        children = Path(f"/proc/{node.pid}/task/{node.pid}/children")
        for process in (*children.read_text().split(), node.pid):
            os.kill(int(process), signal.SIGABRT)
    for node in nodes:
        node.wait()


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
