"""Statistics of a batch, over one rank or all, and their part in the gradient: what every in-place ABN shares."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def statistics(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean ``[C]`` and biased variance ``[C]`` of ``x`` ``[B, C, ...]``; zeros where there is no value.

    Both are exact to the last digits of ``dtype``, over maps of any size.
    """
    if x.numel() == 0:
        return x.new_zeros(2, x.shape[1], dtype=dtype).unbind()  # type: ignore[return-value]
    x, dims = x.to(dtype), [0, *range(2, x.dim())]
    if x.device.type == "cpu":  # where torch.var_mean takes many times longer, and PyTorch's norms lose digits
        mean = x.mean(dims, keepdim=True)
        return mean.flatten(), (x - mean).square_().mean(dims)
    var, mean = torch.var_mean(x, dims, correction=0)
    return mean, var


def over_ranks(mean: Tensor, var: Tensor, count: int, world_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Join each rank's mean ``[C]``, biased variance ``[C]`` and number of values, whose total is a tensor ``[]``.

    A rank without any value takes part with a count of 0, so that no other waits for it.
    """
    if world_size == 1:
        return mean, var, mean.new_tensor(count)
    local = torch.cat([mean, var, mean.new_full((1,), count)])
    gathered = [torch.empty_like(local) for _ in range(world_size)]
    dist.all_gather(gathered, local)
    table = torch.stack(gathered)
    channels = len(mean)
    means, variances, counts = torch.split(table, [channels, channels, 1], dim=1)
    total = counts.sum()
    mean = (means * counts).sum(0) / total.clamp(min=1)
    var = ((variances + (means - mean).square()) * counts).sum(0) / total.clamp(min=1)
    return mean, var, total


def follow(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, count: Tensor, momentum: float
) -> None:
    """Move the running statistics towards those of a batch, the variance unbiased; not where it had no value."""
    weight = momentum * (count > 0).to(mean.dtype)
    running_mean.lerp_(mean, weight)
    running_var.lerp_(var * (count / (count - 1).clamp(min=1)), weight)


def through_statistics(
    grad_bias: Tensor,
    grad_scale: Tensor,
    count: Tensor,
    scale: Tensor,
    inverse_std: Tensor,
    bias: Tensor,
    *,
    synchronise: bool,
) -> tuple[Tensor, Tensor]:
    """Return what the batch's statistics add to the gradient of the input: a factor of ``z`` and an offset, ``[C]``."""
    sums = torch.stack([grad_bias, grad_scale])
    if synchronise:
        dist.all_reduce(sums)
    mean_grad, mean_grad_normalised = (sums / count.clamp(min=1)).unbind()
    of_z = -inverse_std * mean_grad_normalised
    return of_z, -scale * inverse_std * mean_grad - of_z * bias


def in_format_of(grad: Tensor, y: Tensor) -> Tensor:
    """Return the gradient in the memory format of the output, which the fused kernels want alike."""
    if y.dim() == 4 and y.is_contiguous(memory_format=torch.channels_last):
        return grad.contiguous(memory_format=torch.channels_last)
    return grad.contiguous()
