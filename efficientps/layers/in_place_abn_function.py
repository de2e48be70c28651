"""The autograd function of in-place ABN: PyTorch's operators forward, the input recovered from the output backward.

The backward pass needs the activation's input z and the normalised x. Both are recovered from the output. z is itself a
batch-normalised tensor with mean ``bias`` and standard deviation ``scale``, and its normalised values are those of x.
PyTorch's fused backward kernel of batch normalisation therefore computes every sum that is needed when it is given z
with these two vectors as its statistics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from efficientps.layers.abn_scale import Scale, absolute_scale, signed_scale
from efficientps.layers.norm_statistics import (
    average_over_ranks,
    batch_statistics,
    match_memory_format,
    statistics_over_ranks,
    update_running_statistics,
)


class InPlaceABNFunction(torch.autograd.Function):
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
        """Normalise and activate ``x`` ``[B, C, ...]``; the running statistics are updated in place."""
        absolute = scale.absolute if scale else absolute_scale(weight, eps)
        mean, var, inverse_std = running_mean, running_var, None
        count: Tensor | int = x.numel() // x.shape[1]
        if use_batch_statistics and world_size == 1 and x.is_cuda and x.numel() > 0:  # in one kernel
            y, _, inverse_std = torch.native_batch_norm(
                x, absolute, bias, running_mean, running_var, True, momentum, eps
            )
        else:
            if use_batch_statistics:
                mean, var = batch_statistics(x, absolute.dtype)
                if world_size > 1:
                    mean, var, count = statistics_over_ranks(mean, var, x.numel() // x.shape[1], world_size)
                update_running_statistics(running_mean, running_var, mean, var, count, momentum)
            # On CUDA the operator refuses an empty map.
            y = torch.native_batch_norm(x, absolute, bias, mean, var, False, 0.0, eps)[0] if x.numel() else x.clone()
        if slope != 1:
            y = F.leaky_relu_(y, slope)
        if any(ctx.needs_input_grad):
            if inverse_std is None:
                inverse_std = (var + eps).rsqrt()
            if use_batch_statistics:
                inverse, square = scale.signed if scale else signed_scale(weight, absolute)
                totals = [count] if isinstance(count, Tensor) else []
                ctx.save_for_backward(y, bias, inverse, square * inverse_std, *totals)
            else:
                square = absolute.square()
                ctx.save_for_backward(y, bias, square - eps, square * inverse_std, weight)
        ctx.use_batch_statistics, ctx.eps, ctx.slope = use_batch_statistics, eps, slope
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``weight`` and ``bias``."""
        y, bias, *vectors = ctx.saved_tensors
        grad_y = match_memory_format(grad_y, y)
        # The activation's input z, and the gradient with respect to z.
        z, grad_z = y, grad_y
        if ctx.slope != 1:
            z = F.leaky_relu(y, 1 / ctx.slope)
            grad_z = torch.ops.aten.leaky_relu_backward(grad_y, y, ctx.slope, True)
        gradients = _gradients_with_batch_statistics if ctx.use_batch_statistics else _gradients_with_running_statistics
        return *gradients(grad_z, z, bias, *vectors, eps=ctx.eps, needs=list(ctx.needs_input_grad[:3])), *[None] * 8


def _gradients_with_batch_statistics(
    grad_z: Tensor,
    z: Tensor,
    bias: Tensor,
    inverse: Tensor,
    gain: Tensor,
    total: Tensor | None = None,
    *,
    eps: float,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, weight and bias where mean and variance depend on x.

    Args:
        grad_z: gradient with respect to the activation's input z.
        z: ``[B, C, ...]``.
        bias: ``[C]``.
        inverse: inverse of the signed scale, ``[C]``.
        gain: square of the signed scale times the inverse standard deviation of x, ``[C]``.
        total: number of values per channel over all ranks, if the ranks share statistics.
        eps: added to the variance by the layer.
        needs: whether each of the three gradients is needed.
    """
    if z.numel() == 0:  # the kernel divides by the number of values
        grad_x, grad_weight, grad_bias = torch.empty_like(z), torch.zeros_like(bias), torch.zeros_like(bias)
    else:
        mask = needs if total is None else [False, True, True]
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_z, z, gain, None, None, bias, inverse, True, eps, mask
        )
    if total is not None and needs[0]:
        mean_grad_bias, mean_grad_weight = average_over_ranks(torch.stack([grad_bias, grad_weight]), total)
        shape = [1, -1] + [1] * (z.dim() - 2)
        factor = gain * inverse
        of_z = -factor * inverse * mean_grad_weight
        offset = -factor * mean_grad_bias - of_z * bias
        grad_x = (grad_z * factor.view(shape) + z * of_z.view(shape) + offset.view(shape)).to(z.dtype)
    return grad_x, grad_weight, grad_bias


def _gradients_with_running_statistics(
    grad_z: Tensor, z: Tensor, bias: Tensor, var: Tensor, gain: Tensor, weight: Tensor, *, eps: float, needs: list[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x, weight and bias where mean and variance are constants.

    Args:
        grad_z: gradient with respect to the activation's input z.
        z: ``[B, C, ...]``.
        bias: ``[C]``.
        var: square of the scale minus eps, ``[C]``.
        gain: square of the scale times the inverse standard deviation of x, ``[C]``.
        weight: ``[C]``; its sign turns the gradient of the scale into the gradient of the weight.
        eps: added to the variance by the layer.
        needs: whether each of the three gradients is needed.
    """
    if z.numel() == 0:  # the kernel divides by the number of values
        return torch.empty_like(z), torch.zeros_like(bias), torch.zeros_like(bias)
    grad_x, grad_scale, grad_bias = torch.ops.aten.native_batch_norm_backward(
        grad_z, z, gain, bias, var, None, None, False, eps, needs
    )
    grad_weight = torch.where(weight < 0, -grad_scale, grad_scale) if needs[1] else None
    return grad_x, grad_weight, grad_bias
