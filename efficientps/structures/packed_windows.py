"""Windows of many instances, packed one behind the other, so that a device renders all of them at once.

A device takes some microseconds for each operation, however little there is to do: to render thirty instances one by
one costs it a thousand operations. Here the pixels of all windows form one list: window after window, row by row. An
*entry* of the list is one pixel of one window. The number of operations does not depend on the number of instances,
and nothing of size ``[N, h, w]`` is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ENTRIES_AT_ONCE = 2**22
"""Entries that are rendered at once: as many as two images of Cityscapes have pixels. One takes about 70 bytes."""


class Entries(NamedTuple):
    """The entries of one group of windows.

    Attributes:
        window: int32 ``[T]``, the number of the window that the entry belongs to.
        x: int32 ``[T]``, its column in the image.
        y: int32 ``[T]``, its row in the image.
        logits: float32 ``[T]``, the value there of the instance's mask logits.
    """

    window: Tensor
    x: Tensor
    y: Tensor
    logits: Tensor


@dataclass(frozen=True)
class PackedWindows:
    """Where each window's entries begin, and how they find their pixels and their cells of the grid of mask logits.

    ``pack`` makes it in the host's memory. The windows are split into G groups of consecutive windows, so that memory
    is bounded; ``render`` draws one group.

    Attributes:
        sizes: number of entries T of each group.
        bounds: int32 ``[G, 2, M]``; the entries of window i in group g are those from ``bounds[g, 0, i]`` up to, and
            without, ``bounds[g, 1, i]``.
        places: int32 ``[G, 4, M]``; what is added to the number of an entry so that division by the width gives its
            row; the width; the left edge; the first cell of the window's grid in the flat mask logits.
        frames: float32 ``[2, 2, M]``, of the x and the y axis each: the low edge of the frame; cells per pixel.
        cells: int32 ``[2, 2, 1]``, of the x and the y axis each: the number of the first cell, and of the last.
    """

    sizes: Sequence[int]
    bounds: Tensor
    places: Tensor
    frames: Tensor
    cells: Tensor

    def to(self, device: torch.device, *others: Tensor) -> tuple[PackedWindows, list[Tensor]]:
        """Copy everything to a device in one transfer, other tensors of 4-byte numbers with it."""
        tensors = (self.bounds, self.places, self.frames, self.cells, *others)
        words = torch.cat([tensor.flatten().view(torch.int32) for tensor in tensors]).to(device)
        parts = [
            part.view(tensor.dtype).view(tensor.shape)
            for part, tensor in zip(torch.split(words, [tensor.numel() for tensor in tensors]), tensors, strict=True)
        ]
        return PackedWindows(self.sizes, *parts[:4]), parts[4:]


def pack(
    windows: Tensor,
    mask_frames: Tensor,
    grids: Tensor,
    grid_size: tuple[int, int],
    *,
    entries_at_once: int = ENTRIES_AT_ONCE,
) -> PackedWindows:
    """Pack the windows of instances; all tensors lie in the host's memory.

    Args:
        windows: int64 ``[M, 4]``, half-open pixel windows ``(x0, y0, x1, y1)``; empty ones have no entry.
        mask_frames: float32 ``[M, 4]``, see ``InstancePredictions``.
        grids: int64 ``[M]``, the index of each window's grid in the mask logits.
        grid_size: ``(m, n)`` of the mask logits, which must be fewer than 2**31 numbers in all.
        entries_at_once: windows are put into one group as long as they have no more entries together.
    """
    rows, columns = grid_size
    x0, y0, x1, y1 = windows.unbind(dim=1)
    width, areas = x1 - x0, (x1 - x0) * (y1 - y0)
    sizes, bounds, places = [], [], []
    number = torch.arange(len(areas))
    for start, stop in _groups(areas.tolist(), entries_at_once):
        lengths = areas * ((number >= start) & (number < stop))
        ends = lengths.cumsum(dim=0)
        begins = ends - lengths
        sizes.append(int(lengths.sum()))
        bounds.append(torch.stack([begins, ends]))
        places.append(torch.stack([y0 * width - begins, width, x0, grids * (rows * columns)]))
    low, high = mask_frames[:, :2].T, mask_frames[:, 2:].T
    cells_per_pixel = (high - low).reciprocal() * torch.tensor([[columns], [rows]])
    empty = windows.new_empty(0)
    return PackedWindows(
        sizes=sizes,
        bounds=torch.stack(bounds).int() if bounds else empty.int().view(0, 2, len(areas)),
        places=torch.stack(places).int() if places else empty.int().view(0, 4, len(areas)),
        frames=torch.stack([low, cells_per_pixel]),
        cells=torch.tensor([[[0], [0]], [[columns - 1], [rows - 1]]], dtype=torch.int32),
    )


def _groups(areas: Sequence[int], entries_at_once: int) -> Iterator[tuple[int, int]]:
    """Split windows into runs of at most so many entries, or of one window; runs without an entry are left out."""
    start, size = 0, 0
    for index, area in enumerate([*areas, entries_at_once + 1]):
        if size and size + area > entries_at_once:
            yield start, index
            start, size = index, 0
        size += area


def render(mask_logits: Tensor, packed: PackedWindows, group: int) -> Entries:
    """Render the windows of a group, to the last bit as ``InstancePredictions.render`` does; nothing is waited for.

    Args:
        mask_logits: float ``[N, m, n]``.
        packed: on the device of the mask logits.
        group: 0 .. G - 1.
    """
    size, columns = packed.sizes[group], mask_logits.shape[-1]
    entry = torch.arange(size, dtype=torch.int32, device=mask_logits.device)
    # One thread for each entry; repeat_interleave gives a window, however large, to one warp.
    window = torch.searchsorted(packed.bounds[group, 1], entry, right=True, out_int32=True)
    shift, width, left, grid = packed.places[group].index_select(1, window)
    entry += shift
    pixel = entry.new_empty(2, size)
    torch.div(entry, width, rounding_mode="floor", out=pixel[1])
    torch.remainder(entry, width, out=pixel[0]).add_(left)
    del entry, shift, width, left

    low, cells_per_pixel = packed.frames.index_select(2, window)
    position = (pixel + 0.5).sub_(low).mul_(cells_per_pixel).sub_(0.5).clamp_(*packed.cells)
    del low, cells_per_pixel
    cells = pixel.new_empty(2, 2, size)  # first and second cell of the x and the y axis
    cells[0].copy_(position)  # rounds down, as no position is negative
    weight = position.sub_(cells[0])
    torch.add(cells[0], 1, out=cells[1]).clamp_(max=packed.cells[1])
    cells[:, 0].add_(grid)
    del grid
    corners = torch.add(cells[:, 0], cells[:, 1, None], alpha=columns)  # [row, column, entry]
    del cells
    values = mask_logits.reshape(-1).index_select(0, corners.view(-1)).view(2, 2, size).float()
    del corners
    on_row = torch.lerp(values[0], values[1], weight[1])
    return Entries(window, pixel[0], pixel[1], torch.lerp(on_row[0], on_row[1], weight[0]))
