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
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, count: Tensor | int, momentum: float
) -> None:
    """Move the running statistics towards those of a batch, the variance unbiased; not where it had no value.

    Args:
        running_mean: ``[C]``, changed in place.
        running_var: ``[C]``, changed in place.
        mean: of the batch, ``[C]``.
        var: of the batch, biased, ``[C]``.
        count: values of each channel; a tensor ``[]`` where ranks have added theirs up.
        momentum: weight of the batch.
    """
    if isinstance(count, int):  # numbers that the host knows cost the device nothing
        if count > 0:
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var * (count / max(count - 1, 1)), momentum)
        return
    weight = momentum * (count > 0).to(mean.dtype)
    running_mean.lerp_(mean, weight)
    running_var.lerp_(var * (count / (count - 1).clamp(min=1)), weight)


def means_over_ranks(sums: Tensor, count: Tensor) -> Tensor:
    """Return the sums of all ranks, divided by their number of values, a tensor ``[]``."""
    total = sums.clone()
    dist.all_reduce(total)
    return total / count.clamp(min=1)


def in_format_of(grad: Tensor, y: Tensor) -> Tensor:
    """Return the gradient in the memory format of the output, which the fused kernels want alike."""
    if y.dim() == 4 and y.is_contiguous(memory_format=torch.channels_last):
        return grad.contiguous(memory_format=torch.channels_last)
    return grad.contiguous()
