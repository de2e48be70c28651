"""Batch statistics of in-place ABN over one or several ranks, and the running statistics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def batch_statistics(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean ``[C]`` and biased variance ``[C]`` of ``x`` ``[B, C, ...]``; zeros if ``x`` is empty.

    Both are accurate to the last digits of ``dtype``, over maps of any size.
    """
    if x.numel() == 0:
        return x.new_zeros(2, x.shape[1], dtype=dtype).unbind()  # type: ignore[return-value]
    x, dims = x.to(dtype), [0, *range(2, x.dim())]
    if x.device.type == "cpu":  # on a CPU torch.var_mean is many times slower, and F.batch_norm loses digits
        mean = x.mean(dims, keepdim=True)
        return mean.flatten(), (x - mean).square_().mean(dims)
    var, mean = torch.var_mean(x, dims, correction=0)
    return mean, var


def statistics_over_ranks(mean: Tensor, var: Tensor, count: int, world_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Combine the statistics of all ranks into mean ``[C]``, biased variance ``[C]`` and number of values ``[]``.

    An empty rank takes part with a count of 0, so that the other ranks do not wait for it forever.

    Args:
        mean: mean over this rank, ``[C]``.
        var: biased variance over this rank, ``[C]``.
        count: values per channel of this rank.
        world_size: number of ranks.
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


def update_running_statistics(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, count: Tensor | int, momentum: float
) -> None:
    """Move the running statistics towards the mean and the unbiased variance of a batch; an empty batch has no effect.

    Args:
        running_mean: ``[C]``, changed in place.
        running_var: ``[C]``, changed in place.
        mean: mean of the batch, ``[C]``.
        var: biased variance of the batch, ``[C]``.
        count: values per channel; a tensor ``[]`` if it is a sum over ranks.
        momentum: weight of the batch.
    """
    if isinstance(count, int):  # plain numbers need no operation on the device
        if count > 0:
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(var * (count / max(count - 1, 1)), momentum)
        return
    weight = momentum * (count > 0).to(mean.dtype)
    running_mean.lerp_(mean, weight)
    running_var.lerp_(var * (count / (count - 1).clamp(min=1)), weight)


def average_over_ranks(sums: Tensor, count: Tensor) -> Tensor:
    """Add up ``sums`` over all ranks and divide by ``count`` ``[]``, the number of values over all ranks."""
    total = sums.clone()
    dist.all_reduce(total)
    return total / count.clamp(min=1)


def match_memory_format(grad: Tensor, y: Tensor) -> Tensor:
    """Return ``grad`` in the memory format of ``y``; the fused kernels require that both agree."""
    if y.dim() == 4 and y.is_contiguous(memory_format=torch.channels_last):
        return grad.contiguous(memory_format=torch.channels_last)
    return grad.contiguous()
