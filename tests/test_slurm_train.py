"""The SLURM script, with programs in the place of SLURM's that write down how they are called."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts/slurm_train.sh"


@pytest.fixture
def slurm(tmp_path):
    """An environment of job 1234 on two nodes of eight GPUs; ``torchrun`` waits for ``done`` or for SIGTERM."""
    programs = {
        "srun": 'shift; exec "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.txt; [ "$1" = show ] && echo first_node || true',
        "torchrun": f"""echo "$@" > {tmp_path}/torchrun.txt
trap 'sleep 0.5; exit 1' TERM
while [ ! -f {tmp_path}/done ]; do sleep 0.05; done
exit "$(cat {tmp_path}/done)" """,
    }
    for name, body in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_JOB_NODELIST": "first_node,second_node",
    }


def start(slurm, tmp_path):
    job = subprocess.Popen(["bash", SCRIPT, "--data.root", "x"], env=slurm, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not (tmp_path / "torchrun.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return job


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_that_ends_is_not_queued_again(slurm, tmp_path, code):
    job = start(slurm, tmp_path)
    (tmp_path / "done").write_text(str(code))
    assert job.wait(20) == code
    called = (tmp_path / "torchrun.txt").read_text()
    assert "--nnodes 2 --nproc_per_node 8" in called and "--rdzv_endpoint first_node:21234" in called
    assert "--trainer.num_nodes 2 --trainer.devices 8 --ckpt_path auto --data.root x" in called
    assert "requeue" not in (tmp_path / "scontrol.txt").read_text()


@pytest.mark.parametrize("how", ["signal", "exit code"])
def test_a_preempted_run_is_queued_again_once_it_has_ended(slurm, tmp_path, how):
    job = start(slurm, tmp_path)
    if how == "signal":
        job.send_signal(signal.SIGTERM)
    else:
        (tmp_path / "done").write_text("75")
    output, _ = job.communicate(timeout=20)
    assert job.returncode == 0 and "Preempted: job 1234 queues again." in output
    assert (tmp_path / "scontrol.txt").read_text().splitlines()[-1] == "requeue 1234"
