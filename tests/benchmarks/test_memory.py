import subprocess
import sys

import pytest
import torch

from benchmarks.memory import peak_bytes

MEASURED = """
import numpy as np
from benchmarks.memory import peak_bytes

def call():
    first = [np.ones(50_000_000, dtype=np.uint8) for _ in range(2)]
    del first
    return np.ones(20_000_000, dtype=np.uint8)

print(peak_bytes(call), peak_bytes(lambda: None))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is kept by Linux")
def test_peak_of_what_is_freed_on_the_way():
    # Oracle: the sizes of the arrays; two of 50 MB are alive together, the third comes after them. In a process of its
    # own, because the allocator of one that has done other work keeps memory.
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    peak, nothing = map(int, done.stdout.split())
    assert peak == pytest.approx(100e6, rel=0.1)
    assert nothing < 10e6


@pytest.mark.gpu
def test_peak_of_a_device():
    # Oracle: the size of the tensors; the allocator rounds to blocks of 2 MiB.
    assert peak_bytes(lambda: torch.ones(50_000_000, device="cuda") + 1, device="cuda") == pytest.approx(
        400e6, rel=0.02
    )
