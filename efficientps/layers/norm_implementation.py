"""The ways in which in-place ABN can be computed, and the checks that a way is available."""

from __future__ import annotations

import importlib.util
import os
import warnings
from functools import cache
from typing import Literal

import torch
from torch import Tensor

Implementation = Literal["in_place", "eager", "compiled", "triton"]


def check_installed(implementation: Implementation) -> None:
    """Check that the packages of an implementation are installed.

    Raises:
        ModuleNotFoundError: ``compiled`` needs the ``inplace-abn`` package, and ``triton`` needs Triton, which comes
            with PyTorch for CUDA.
    """
    if implementation == "triton" and importlib.util.find_spec("triton") is None:
        raise ModuleNotFoundError(
            "The norm implementation 'triton' needs Triton, which PyTorch brings where it is built for CUDA; choose "
            "'in_place'."
        )
    if implementation == "compiled":
        try:
            import inplace_abn  # noqa: F401
        except ImportError as error:
            raise ModuleNotFoundError(
                "The norm implementation 'compiled' needs the inplace-abn package; install the extra 'inplace-abn' "
                "or choose 'in_place'."
            ) from error


def triton_function(x: Tensor) -> type[torch.autograd.Function] | None:
    """Return the autograd function that runs Triton's kernels, or None if the kernels do not accept ``x``.

    The kernels run on CUDA, or anywhere in Triton's interpreter. A warning says once per process that the dtype or
    memory format of ``x`` is not accepted.

    Raises:
        KernelLaunchError: Triton cannot run on this machine.
    """
    if not (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return None
    from efficientps.layers import norm_act_kernels, norm_act_triton

    if norm_act_kernels.accepts(x):
        if not torch.compiler.is_compiling():
            norm_act_triton.check_launch(x.device)
        return norm_act_triton.TritonABNFunction
    if x.numel() > 0:
        _warn_once(
            "The norm implementation 'triton' computes a map as 'in_place' does: its kernels take float32, bfloat16 or "
            "float16 in the channels last memory format. Set the channels last memory format for the network, or "
            "choose 'in_place'."
        )
    return None


def warn_eager_is_not_synchronised(world_size: int) -> None:
    """Warn once per process that ``eager`` is replaced by ``in_place``, because several ranks share statistics."""
    _warn_once(
        "The norm implementation 'eager' takes the statistics of one process alone; the norms compute as 'in_place' "
        f"does, over {world_size} processes. Choose 'in_place' or 'triton', which synchronise."
    )


@cache
def _warn_once(sentence: str) -> None:
    """Warn on the first call with this sentence in this process."""
    warnings.warn(sentence, stacklevel=2)
