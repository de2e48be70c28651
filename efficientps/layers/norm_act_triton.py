"""The autograd function of in-place ABN that runs this package's own Triton kernels on CUDA."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from efficientps.layers.abn_scale import Scale, absolute_scale, signed_scale
from efficientps.layers.norm_act_kernels import gradient_sums, input_gradient, mean_and_variance, normalise
from efficientps.layers.norm_statistics import (
    average_over_ranks,
    match_memory_format,
    statistics_over_ranks,
    update_running_statistics,
)


class KernelLaunchError(OSError):
    """Triton is installed but cannot run kernels on this machine."""


class TritonABNFunction(torch.autograd.Function):
    """In-place ABN that saves its output and a few vectors ``[C]`` for the backward pass, and no other map."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        scale: Scale | None,
        use_batch_statistics: bool,
        momentum: float,
        eps: float,
        slope: float,
        world_size: int,
    ) -> Tensor:
        """Normalise and activate; the running statistics are updated in place."""
        absolute = scale.absolute if scale else absolute_scale(weight, eps)
        mean, var = running_mean, running_var
        count: Tensor | int = x.numel() // x.shape[1]
        if use_batch_statistics:
            mean, var = mean_and_variance(x)
            if world_size > 1:
                mean, var, count = statistics_over_ranks(mean, var, x.numel() // x.shape[1], world_size)
            update_running_statistics(running_mean, running_var, mean, var, count, momentum)
        inverse_std = (var + eps).rsqrt()
        factor = absolute * inverse_std
        y = normalise(x, factor, bias - mean * factor, slope)
        if any(ctx.needs_input_grad):
            inverse, square = scale.signed if scale else signed_scale(weight, absolute)
            totals = [count] if isinstance(count, Tensor) else []
            ctx.save_for_backward(y, bias, inverse, square * inverse_std, *totals)
        ctx.use_batch_statistics, ctx.slope = use_batch_statistics, slope
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``weight`` and ``bias``."""
        y, bias, inverse, gain, *totals = ctx.saved_tensors
        grad_y = match_memory_format(grad_y, y)
        sums = gradient_sums(grad_y, y, bias, inverse, ctx.slope)
        grad_x = None
        if ctx.needs_input_grad[0]:
            means, share = sums, y.shape[1] / y.numel() if ctx.use_batch_statistics else 0.0
            if totals:
                means, share = average_over_ranks(sums, totals[0]), 1.0
            grad_x = input_gradient(grad_y, y, bias, inverse, gain, means, share, ctx.slope)
        return grad_x, sums[1], sums[0], *[None] * 8


@cache
def check_launch(device: torch.device) -> None:
    """Run a kernel on one value; the result is cached for each device.

    Raises:
        KernelLaunchError: the kernel does not run, for example because there is no C compiler.
    """
    one = torch.ones(1, 1, device=device)
    try:
        normalise(one, one[0], one[0], 1.0)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KernelLaunchError(
            f"Triton's kernels do not run on {device} ({reason[:200]}); choose the norm implementation 'in_place'."
        ) from error
