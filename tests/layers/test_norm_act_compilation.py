"""The kernels of the in-place ABN compile for real cards, without one; the interpreter accepts more than cards do.

The compilation has a process of its own, because this one may run Triton's interpreter (see ``conftest.py``).
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

KERNELS = ("_sum_kernel", "_normalise_kernel", "_gradient_sum_kernel", "_input_gradient_kernel")
DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
ARCHITECTURES = (80, 90, 100)
"""Compute capabilities, times 10: A100, H100, B200."""

CHANNELS = (24, 40, 128, 176, 2048)
"""Of EfficientNet-B5."""


def test_all_kernels_compile_for_each_architecture_and_type(tmp_path):
    """Oracle: Triton's compiler with NVIDIA's assembler, for the arguments and blocks that the layer launches with."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.layers.test_norm_act_compilation"],
        cwd=Path(__file__).parents[2], env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    wanted = itertools.product(KERNELS, architectures(), DTYPES.values())
    assert set(result.stdout.splitlines()) == {f"{kernel} sm_{number} {dtype}" for kernel, number, dtype in wanted}


def architectures():
    """Those that Triton's assembler knows: Triton 3.2 has none for the newest."""
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    return ARCHITECTURES if version >= (3, 3) else ARCHITECTURES[:2]


class Recorder:
    """Stands for a kernel and notes the type of each argument of a launch, and the sizes of its block."""

    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, blocks):
        def launch(*arguments, **tile):
            types = [type_of(argument) for argument in arguments] + ["constexpr"] * len(tile)
            self.launches.append((self.kernel, dict(zip(self.kernel.arg_names, types, strict=True)), tile))

        return launch


def type_of(argument):
    """Return Triton's name of an argument's type."""
    if isinstance(argument, torch.Tensor):
        return f"*{DTYPES[argument.dtype]}"
    return {int: "i32", float: "fp32"}[type(argument)]


def launches_of(channels, dtype):
    """Return kernel, types of the arguments and block of each launch in a training step of one layer."""
    from efficientps.layers import norm_act_kernels, norm_act_triton

    launches, kernels = [], {name: getattr(norm_act_kernels, name) for name in KERNELS}
    x = torch.zeros(2, channels, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.ones(2, channels, requires_grad=True).unbind()
    for name, kernel in kernels.items():
        setattr(norm_act_kernels, name, Recorder(kernel, launches))
    norm_act_triton.TritonABNFunction.apply(
        x, weight, bias, torch.zeros(channels), torch.ones(channels), None, True, 0.1, 1e-5, 0.01, 1
    ).sum().backward()
    for name, kernel in kernels.items():
        setattr(norm_act_kernels, name, kernel)
    return launches


def compile_all():
    """Compile every kernel for each architecture and type, and the block sizes in turn; print what was compiled."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from efficientps.layers.norm_act_kernels import _tile

    channels = list({tuple(_tile(count).items()): count for count in CHANNELS}.values())  # one for each size of block
    for (row, number), (column, dtype) in itertools.product(enumerate(architectures()), enumerate(DTYPES)):
        for kernel, types, tile in launches_of(channels[(row + column) % len(channels)], dtype):
            triton.compile(ASTSource(kernel, types, tile), target=GPUTarget("cuda", number, 32))
            print(kernel.fn.__name__, f"sm_{number}", DTYPES[dtype])


if __name__ == "__main__":
    compile_all()
