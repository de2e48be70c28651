import subprocess
import sys

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
