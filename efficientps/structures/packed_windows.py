"""Rendering of many instances' mask logits together: the pixels of all windows are packed into one list.

A GPU needs some microseconds for each operation, however small, and rendering instances one by one takes dozens of
operations for each instance. Here the pixels of all windows form one list: window after window, row by row. An *entry*
of the list is one pixel of one window. The number of operations does not depend on the number of instances, and no
tensor of size ``[N, h, w]`` is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ENTRIES_AT_ONCE = 2**22
"""Entries that are rendered together: the pixels of two Cityscapes images. An entry needs about 70 bytes."""


class Entries(NamedTuple):
    """The entries of one group of windows.

    Attributes:
        window: int32 ``[T]``, index of the window that the entry belongs to.
        x: int32 ``[T]``, column of the entry in the image.
        y: int32 ``[T]``, row of the entry in the image.
        logits: float32 ``[T]``, mask logit of the window's instance at this pixel.
    """

    window: Tensor
    x: Tensor
    y: Tensor
    logits: Tensor


@dataclass(frozen=True)
class PackedWindows:
    """Tables that map each entry to its window, its pixel and its cells in the grid of mask logits.

    ``pack`` builds them in CPU memory. The M windows are split into G groups of consecutive windows, to bound memory;
    ``render`` renders one group.

    Attributes:
        sizes: number of entries T of each group.
        bounds: int32 ``[G, 2, M]``; in group g, window i has the entries ``bounds[g, 0, i]`` (inclusive) to
            ``bounds[g, 1, i]`` (exclusive).
        places: int32 ``[G, 4, M]``; four numbers per window: an offset, such that (entry + offset) divided by the
            window's width is the row in the image; the width; the left edge; the index of the first cell of the
            window's grid in the flattened mask logits.
        frames: float32 ``[2, 2, M]``; for the x and the y axis, the low edge of the frame and the cells per pixel.
        cells: int32 ``[2, 2, 1]``; for the x and the y axis, the index of the first and of the last cell.
    """

    sizes: Sequence[int]
    bounds: Tensor
    places: Tensor
    frames: Tensor
    cells: Tensor

    def to(self, device: torch.device, *others: Tensor) -> tuple[PackedWindows, list[Tensor]]:
        """Copy all tables, and other tensors with 4-byte elements, to a device in one transfer."""
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
    """Pack the windows of instances; all tensors are in CPU memory.

    Args:
        windows: int64 ``[M, 4]``, half-open pixel windows ``(x0, y0, x1, y1)``; an empty window has no entries.
        mask_frames: float32 ``[M, 4]``, frames as in ``InstancePredictions``.
        grids: int64 ``[M]``, the index of each window's grid in the mask logits.
        grid_size: ``(m, n)`` of the mask logits ``[N, m, n]``, which must have fewer than 2**31 elements.
        entries_at_once: largest number of entries of a group; a single larger window forms a group of its own.
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
    """Split windows into ranges of at most ``entries_at_once`` entries, or one window; empty ranges are left out."""
    start, size = 0, 0
    for index, area in enumerate([*areas, entries_at_once + 1]):
        if size and size + area > entries_at_once:
            yield start, index
            start, size = index, 0
        size += area


def render(mask_logits: Tensor, packed: PackedWindows, group: int) -> Entries:
    """Render the windows of a group without waiting for the device.

    The logits equal those of ``InstancePredictions.render`` bit for bit.

    Args:
        mask_logits: float ``[N, m, n]``.
        packed: tables on the device of the mask logits.
        group: index of the group, 0 .. G - 1.
    """
    size, columns = packed.sizes[group], mask_logits.shape[-1]
    entry = torch.arange(size, dtype=torch.int32, device=mask_logits.device)
    # searchsorted uses one thread per entry; repeat_interleave would use one warp per window, however large.
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
