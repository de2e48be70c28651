import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit
import torch.distributed as dist
from efficientps.training.process_group import leave_at_exit

atexit.register(lambda: print("group at the end:", dist.is_initialized()))
leave_at_exit()
leave_at_exit()
dist.init_process_group("gloo", init_method="file://STORE", rank=0, world_size=1)
print("group:", dist.is_initialized())
"""


def test_a_process_leaves_its_group_before_the_interpreter_ends(tmp_path):
    # Oracle: by hand; handlers run in the reverse order of their registration.
    program = PROGRAM.replace("STORE", str(tmp_path / "store"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["group: True", "group at the end: False"]


SCRIPT = """
import atexit
import os
import pytorch_lightning as pl
import torch.distributed as dist
from tests.training.test_module import loader, module, targets

if __name__ == "__main__":
    atexit.register(lambda: os.write(1, f"group at the end: {dist.is_initialized()}\\n".encode()))
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_steps=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )
    trainer.fit(module(), loader([targets(), targets()]))
    os.write(1, f"group: {dist.is_initialized()}\\n".encode())
"""


@pytest.mark.slow
def test_a_script_with_a_trainer_leaves_its_group_too(tmp_path):
    """Oracle: as above; each of two processes of a training without the command line says so."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("group")]
    assert sorted(lines) == 2 * ["group at the end: False"] + 2 * ["group: True"]
