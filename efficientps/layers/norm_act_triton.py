"""Kernels of the in-place ABN for CUDA: each pass over a map reads it once, and nothing in between is stored.

PyTorch's own operators make two more maps during the backward pass: the activation's input and the gradient with
respect to it. Here the activation is computed, and inverted, where its value is needed: two passes forward (statistics;
result) and two backward (sums; gradient), no copies.

The maps are channels last, or ``[N, C]``: a matrix of ``rows`` positions by C channels. Arithmetic is in float32.

The kernels' arguments are annotated with Triton's own types, the only ones that its compiler can look up.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from efficientps.layers.abn_scale import Scale, absolute_scale, signed_scale
from efficientps.layers.norm_statistics import follow, in_format_of, means_over_ranks, over_ranks

_ELEMENTS = 4096
"""Values that a program holds at a time; a power of two."""

_MAX_PROGRAMS = 512
"""Programs along the rows in the passes that add up; each leaves a line of sums."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class KernelLaunchError(OSError):
    """Triton is installed and cannot run kernels on this machine."""


class TritonABNFunction(torch.autograd.Function):
    """In-place ABN: keeps the output and three vectors, as the function of ``norm_act`` does."""

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
                mean, var, count = over_ranks(mean, var, x.numel() // x.shape[1], world_size)
            follow(running_mean, running_var, mean, var, count, momentum)
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
        grad_y = in_format_of(grad_y, y)
        sums = gradient_sums(grad_y, y, bias, inverse, ctx.slope)
        grad_x = None
        if ctx.needs_input_grad[0]:
            means, share = sums, y.shape[1] / y.numel() if ctx.use_batch_statistics else 0.0
            if totals:
                means, share = means_over_ranks(sums, totals[0]), 1.0
            grad_x = input_gradient(grad_y, y, bias, inverse, gain, means, share, ctx.slope)
        return grad_x, sums[1], sums[0], *[None] * 8


def fits(x: Tensor) -> bool:
    """Return whether the kernels take ``x``: 16 or 32 bits, channels last or ``[N, C]``, and not empty."""
    if x.dtype not in DTYPES or x.numel() == 0:
        return False
    return x.is_contiguous() if x.dim() == 2 else x.is_contiguous(memory_format=torch.channels_last)


@cache
def check_launch(device: torch.device) -> None:
    """Run a kernel on one value, once for each device.

    Raises:
        KernelLaunchError: it does not run, for want of a C compiler for example.
    """
    one = torch.ones(1, 1, device=device)
    try:
        normalise(one, one[0], one[0], 1.0)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KernelLaunchError(
            f"Triton's kernels do not run on {device} ({reason[:200]}); choose the norm implementation 'in_place'."
        ) from error


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel, float32 ``[C]``.

    Sums are taken of the distance from the first row, so that a mean far from 0 costs no digits.

    Args:
        x: ``[B, C, H, W]`` or ``[N, C]``, see ``fits``.
    """
    rows, channels, chunk, blocks = _plan(x)
    sums = torch.empty(blocks[0], 2, channels, device=x.device)
    _sum_kernel[blocks](x, sums, rows, channels, chunk, **_tile(channels))
    total = sums.sum(0) / rows
    return _first_row(x) + total[0], (total[1] - total[0].square()).clamp(min=0)


def normalise(x: Tensor, factor: Tensor, offset: Tensor, slope: float, *, out: Tensor | None = None) -> Tensor:
    """Return the leaky ReLU of ``factor * x + offset``, in the dtype and layout of ``x``.

    Args:
        x: see ``mean_and_variance``.
        factor: float32 ``[C]``.
        offset: float32 ``[C]``.
        slope: of the leaky ReLU below 0.
        out: where the result is written, in the layout of ``x``, which it may be itself; a new tensor by default.
    """
    y = torch.empty_like(x) if out is None else out
    rows, channels, blocks = _tiles(x)
    _normalise_kernel[blocks](x, y, factor, offset, rows, channels, slope, **_tile(channels))
    return y


def gradient_sums(grad_y: Tensor, y: Tensor, bias: Tensor, inverse: Tensor, slope: float) -> Tensor:
    """Return the sums over the rows of ``g`` and of ``g (z - bias) inverse``, float32 ``[2, C]``.

    ``z`` is the activation's input, recovered from its output ``y``, and ``g`` the gradient with respect to it. The
    sums are the gradients of bias and weight.

    Args:
        grad_y: gradient with respect to ``y``, in its layout.
        y: output of ``normalise``.
        bias: float32 ``[C]``.
        inverse: of the signed scale, float32 ``[C]``.
        slope: of the leaky ReLU below 0.
    """
    rows, channels, chunk, blocks = _plan(y)
    sums = torch.empty(blocks[0], 2, channels, device=y.device)
    _gradient_sum_kernel[blocks](grad_y, y, bias, inverse, sums, rows, channels, chunk, slope, **_tile(channels))
    return sums.sum(0)


def input_gradient(
    grad_y: Tensor, y: Tensor, bias: Tensor, inverse: Tensor, gain: Tensor, sums: Tensor, share: float, slope: float
) -> Tensor:
    """Return the gradient with respect to the layer's input, in the dtype and layout of ``y``.

    It is ``gain * inverse * (g - share * sums[0] - (z - bias) * inverse * share * sums[1])``, see ``gradient_sums``.

    Args:
        grad_y: gradient with respect to ``y``, in its layout.
        y: output of ``normalise``.
        bias: float32 ``[C]``.
        inverse: of the signed scale, float32 ``[C]``.
        gain: square of the signed scale times the inverse standard deviation of the input, float32 ``[C]``.
        sums: ``gradient_sums``, of all ranks that share statistics.
        share: of one value in the statistics, 1 / their number; 0 where they are constants.
        slope: of the leaky ReLU below 0.
    """
    grad_x = torch.empty_like(y)
    rows, channels, blocks = _tiles(y)
    _input_gradient_kernel[blocks](
        grad_y, y, grad_x, bias, inverse, gain, sums, share, rows, channels, slope, **_tile(channels)
    )
    return grad_x


def _tile(channels: int) -> dict[str, int]:
    block_channels = min(128, triton.next_power_of_2(channels))
    return {"block_channels": block_channels, "block_rows": _ELEMENTS // block_channels}


def _tiles(x: Tensor) -> tuple[int, int, tuple[int, int]]:
    """Return the rows, the channels, and the programs where each has one tile."""
    channels = x.shape[1]
    rows, tile = x.numel() // channels, _tile(channels)
    return rows, channels, (triton.cdiv(rows, tile["block_rows"]), triton.cdiv(channels, tile["block_channels"]))


def _plan(x: Tensor) -> tuple[int, int, int, tuple[int, int]]:
    """Return the rows, the channels, the rows that one program adds up, and the programs."""
    rows, channels, (row_tiles, channel_tiles) = _tiles(x)
    tiles_at_a_time = triton.cdiv(row_tiles, _MAX_PROGRAMS)
    chunk = tiles_at_a_time * _tile(channels)["block_rows"]
    return rows, channels, chunk, (triton.cdiv(row_tiles, tiles_at_a_time), channel_tiles)


def _first_row(x: Tensor) -> Tensor:
    return (x[0] if x.dim() == 2 else x[0, :, 0, 0]).float()


@triton.jit  # type: ignore[untyped-decorator]
def _sum_kernel(
    x: tl.tensor, sums: tl.tensor, rows: tl.tensor, channels: tl.tensor, chunk: tl.tensor,
    block_channels: tl.constexpr, block_rows: tl.constexpr,
) -> None:  # fmt: skip
    program = tl.program_id(0)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    in_channels = channel < channels
    pivot = tl.load(x + channel, mask=in_channels, other=0.0).to(tl.float32)
    first = tl.zeros([block_channels], dtype=tl.float32)
    second = tl.zeros([block_channels], dtype=tl.float32)
    for begin in range(0, chunk, block_rows):
        row = program.to(tl.int64) * chunk + begin + tl.arange(0, block_rows)
        inside = (row < rows)[:, None] & in_channels[None, :]
        value = tl.load(x + row[:, None] * channels + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        distance = tl.where(inside, value - pivot[None, :], 0.0)
        first += tl.sum(distance, axis=0)
        second += tl.sum(distance * distance, axis=0)
    line = sums + program * 2 * channels + channel
    tl.store(line, first, mask=in_channels)
    tl.store(line + channels, second, mask=in_channels)


@triton.jit  # type: ignore[untyped-decorator]
def _normalise_kernel(
    x: tl.tensor, y: tl.tensor, factor: tl.tensor, offset: tl.tensor,
    rows: tl.tensor, channels: tl.tensor, slope: tl.tensor,
    block_channels: tl.constexpr, block_rows: tl.constexpr,
) -> None:  # fmt: skip
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    row = tl.program_id(0).to(tl.int64) * block_rows + tl.arange(0, block_rows)
    in_channels = channel < channels
    inside = (row < rows)[:, None] & in_channels[None, :]
    place = row[:, None] * channels + channel[None, :]
    z = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    z = z * tl.load(factor + channel, mask=in_channels)[None, :] + tl.load(offset + channel, mask=in_channels)[None, :]
    tl.store(y + place, tl.where(z < 0, z * slope, z), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gradient_sum_kernel(
    grad_y: tl.tensor, y: tl.tensor, bias: tl.tensor, inverse: tl.tensor, sums: tl.tensor,
    rows: tl.tensor, channels: tl.tensor, chunk: tl.tensor, slope: tl.tensor,
    block_channels: tl.constexpr, block_rows: tl.constexpr,
) -> None:  # fmt: skip
    program = tl.program_id(0)
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    in_channels = channel < channels
    mean = tl.load(bias + channel, mask=in_channels, other=0.0)
    first = tl.zeros([block_channels], dtype=tl.float32)
    second = tl.zeros([block_channels], dtype=tl.float32)
    for begin in range(0, chunk, block_rows):
        row = program.to(tl.int64) * chunk + begin + tl.arange(0, block_rows)
        inside = (row < rows)[:, None] & in_channels[None, :]
        place = row[:, None] * channels + channel[None, :]
        z = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(grad_y + place, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.where(z < 0, gradient * slope, gradient)
        z = tl.where(z < 0, z / slope, z)
        first += tl.sum(gradient, axis=0)
        second += tl.sum(gradient * (z - mean[None, :]), axis=0)
    line = sums + program * 2 * channels + channel
    tl.store(line, first, mask=in_channels)
    tl.store(line + channels, second * tl.load(inverse + channel, mask=in_channels), mask=in_channels)


@triton.jit  # type: ignore[untyped-decorator]
def _input_gradient_kernel(
    grad_y: tl.tensor, y: tl.tensor, grad_x: tl.tensor, bias: tl.tensor, inverse: tl.tensor, gain: tl.tensor,
    sums: tl.tensor, share: tl.tensor, rows: tl.tensor, channels: tl.tensor, slope: tl.tensor,
    block_channels: tl.constexpr, block_rows: tl.constexpr,
) -> None:  # fmt: skip
    channel = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    row = tl.program_id(0).to(tl.int64) * block_rows + tl.arange(0, block_rows)
    in_channels = channel < channels
    inside = (row < rows)[:, None] & in_channels[None, :]
    normalised_by = tl.load(inverse + channel, mask=in_channels)
    factor = tl.load(gain + channel, mask=in_channels) * normalised_by
    of_z = -factor * normalised_by * share * tl.load(sums + channels + channel, mask=in_channels)
    offset = -factor * share * tl.load(sums + channel, mask=in_channels)
    offset -= of_z * tl.load(bias + channel, mask=in_channels)
    place = row[:, None] * channels + channel[None, :]
    z = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(grad_y + place, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.where(z < 0, gradient * slope, gradient)
    z = tl.where(z < 0, z / slope, z)
    tl.store(grad_x + place, gradient * factor[None, :] + z * of_z[None, :] + offset[None, :], mask=inside)
