"""Triton kernels of in-place ABN for CUDA: each pass reads a map once and stores no intermediate map.

PyTorch's own operators store two more maps during the backward pass: the activation's input, and the gradient with
respect to the activation's input. These kernels compute or invert the activation where they need its value. There are
two passes forward (statistics, result) and two passes backward (sums, gradient), without copies.

A map is channels last or ``[N, C]``. The kernels see it as a matrix of ``rows`` positions by C channels. Arithmetic is
in float32. The kernels' arguments are annotated with Triton's own types, because its compiler looks up no others.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 4096
"""Values that a program holds at a time; a power of two."""

_MAX_PROGRAMS = 512
"""Programs along the rows in the passes that compute sums; each program writes one row of partial sums."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def accepts(x: Tensor) -> bool:
    """Return whether the kernels accept ``x``: a dtype of ``DTYPES``, channels last or ``[N, C]``, and not empty."""
    if x.dtype not in DTYPES or x.numel() == 0:
        return False
    return x.is_contiguous() if x.dim() == 2 else x.is_contiguous(memory_format=torch.channels_last)


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel, float32 ``[C]``.

    The sums are taken of the differences from the first row, so that no digits are lost if the mean is far from 0.

    Args:
        x: a channels-last ``[B, C, H, W]`` or ``[N, C]`` that ``accepts`` allows.
    """
    rows, channels, chunk, blocks = _plan(x)
    sums = torch.empty(blocks[0], 2, channels, device=x.device)
    _sum_kernel[blocks](x, sums, rows, channels, chunk, **_tile(channels))
    total = sums.sum(0) / rows
    return _first_row(x) + total[0], (total[1] - total[0].square()).clamp(min=0)


def normalise(x: Tensor, factor: Tensor, offset: Tensor, slope: float, *, out: Tensor | None = None) -> Tensor:
    """Return the leaky ReLU of ``factor * x + offset``, in the dtype and layout of ``x``.

    Args:
        x: a channels-last ``[B, C, H, W]`` or ``[N, C]`` that ``accepts`` allows.
        factor: float32 ``[C]``.
        offset: float32 ``[C]``.
        slope: negative slope of the leaky ReLU.
        out: tensor for the result, in the layout of ``x``; it may be ``x`` itself. By default a new tensor.
    """
    y = torch.empty_like(x) if out is None else out
    rows, channels, blocks = _tiles(x)
    _normalise_kernel[blocks](x, y, factor, offset, rows, channels, slope, **_tile(channels))
    return y


def gradient_sums(grad_y: Tensor, y: Tensor, bias: Tensor, inverse: Tensor, slope: float) -> Tensor:
    """Return the sums over the rows of ``g`` and of ``g (z - bias) inverse``, float32 ``[2, C]``.

    ``z`` is the activation's input, recovered from its output ``y``; ``g`` is the gradient with respect to ``z``. The
    sums are the gradients of bias and weight.

    Args:
        grad_y: gradient with respect to ``y``, in the layout of ``y``.
        y: output of ``normalise``.
        bias: float32 ``[C]``.
        inverse: inverse of the signed scale, float32 ``[C]``.
        slope: negative slope of the leaky ReLU.
    """
    rows, channels, chunk, blocks = _plan(y)
    sums = torch.empty(blocks[0], 2, channels, device=y.device)
    _gradient_sum_kernel[blocks](grad_y, y, bias, inverse, sums, rows, channels, chunk, slope, **_tile(channels))
    return sums.sum(0)


def input_gradient(
    grad_y: Tensor, y: Tensor, bias: Tensor, inverse: Tensor, gain: Tensor, sums: Tensor, share: float, slope: float
) -> Tensor:
    """Return the gradient with respect to the layer's input, in the dtype and layout of ``y``.

    The result is ``gain * inverse * (g - share * sums[0] - (z - bias) * inverse * share * sums[1])``; ``gradient_sums``
    explains ``g`` and ``z``.

    Args:
        grad_y: gradient with respect to ``y``, in the layout of ``y``.
        y: output of ``normalise``.
        bias: float32 ``[C]``.
        inverse: inverse of the signed scale, float32 ``[C]``.
        gain: square of the signed scale times the inverse standard deviation of the input, float32 ``[C]``.
        sums: result of ``gradient_sums``, ``[2, C]``; if ranks share statistics, averaged over their values.
        share: factor of ``sums``: 1 / number of values for sums of one rank, 1 for averages, 0 if the statistics are
            constants.
        slope: negative slope of the leaky ReLU.
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
    """Return the number of rows, of channels, and of programs (rows, channels) if each program has one tile."""
    channels = x.shape[1]
    rows, tile = x.numel() // channels, _tile(channels)
    return rows, channels, (triton.cdiv(rows, tile["block_rows"]), triton.cdiv(channels, tile["block_channels"]))


def _plan(x: Tensor) -> tuple[int, int, int, tuple[int, int]]:
    """Return the number of rows, of channels, of rows that one program sums up, and of programs."""
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
