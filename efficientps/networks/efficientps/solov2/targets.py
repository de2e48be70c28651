"""Assign the cells of SOLOv2's grids to objects, and make the masks that their kernels learn.

Coordinates are continuous: pixel i covers [i, i + 1] and has its centre at i + 0.5, boxes are half-open, and the grid
of each level spans [0, H] x [0, W] of the padded canvas.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from efficientps.networks.efficientps.solov2.tensor_cache import TensorCache
from efficientps.structures import InstanceTargets

_MASKS_AT_A_TIME = 8

_PIXELS_AT_A_TIME_ON_CUDA = 1 << 26
"""Pixels of masks converted to float32 together (256 MB)."""


class CellTargets(NamedTuple):
    """Targets of the cells of all levels in one image; cells are numbered row by row, level 0 first.

    Attributes:
        categories: int64 ``[cells]``, thing_id of each cell's object, or ``num_things`` where it has none.
        cells: int64 ``[P]``, the cell of each positive pair (cell, object).
        objects: int64 ``[P]``, the object of each pair; pairs are in the order of the objects.
    """

    categories: Tensor
    cells: Tensor
    objects: Tensor


def assign_cells(
    targets: InstanceTargets,
    *,
    num_things: int,
    grids: Sequence[tuple[int, int]],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float = 0.2,
    conflict: Literal["smaller", "last", "all"] = "smaller",
) -> CellTargets:
    """Give each object the cells around its centre, on each level that is in charge of its size.

    An object belongs to every level whose range holds the square root of its box area. There it has the cells that
    its centre region touches, as far as they are among the 3x3 around the cell of the centre. The centre is the mass
    centre of the visible mask, the region ``sigma`` times as wide and high as the box (SOLOv2, Sec. 3.3 and SOLO,
    Sec. 3.3.1; WXinlong/SOLO: mmdet/models/anchor_heads/solov2_head.py). Objects without a pixel have no cell.

    Args:
        targets: targets of one image; the size of its masks is the canvas.
        num_things: number of thing classes; the category of a cell without object.
        grids: rows and columns of each level.
        scale_ranges: least and greatest size in pixels of the objects of each level, both included.
        sigma: side of the centre region relative to that of the box.
        conflict: the object that gets a cell which several objects claim: the one with the ``smaller`` mask (of equal
            ones the later object) or the ``last`` one, whereupon the others lose their pair; or ``all``, as in the
            originals, where the cell takes the category of the last object but learns the masks of all.

    Returns:
        The targets, on the device of ``targets``.

    Raises:
        ValueError: there are not as many grids as ranges.

    >>> masks = torch.zeros(1, 4, 8, dtype=torch.bool)
    >>> masks[0, 1:3, 5:7] = True  # centre (6, 2), in the middle of a border between rows
    >>> one = InstanceTargets(labels=torch.tensor([1]), boxes=torch.tensor([[5.0, 1, 7, 3]]), masks=masks)
    >>> assign_cells(one, num_things=3, grids=[(2, 4)], scale_ranges=[(0, 8)]).categories.view(2, 4).tolist()
    [[3, 3, 1, 1], [3, 3, 1, 1]]
    """
    (cells,) = assign_cells_of_batch(
        [targets], num_things=num_things, grids=grids, scale_ranges=scale_ranges, sigma=sigma, conflict=conflict
    )
    return cells


def assign_cells_of_batch(
    targets: Sequence[InstanceTargets],
    *,
    num_things: int,
    grids: Sequence[tuple[int, int]],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float = 0.2,
    conflict: Literal["smaller", "last", "all"] = "smaller",
    tables: TensorCache | None = None,
) -> list[CellTargets]:
    """Return ``assign_cells`` of each image of a batch on one canvas; the objects of all images are assigned together.

    The host waits for a device at most twice, however many images there are.

    Args:
        targets: one entry for each image.
        num_things: number of thing classes; the category of a cell without object.
        grids: rows and columns of each level.
        scale_ranges: least and greatest size in pixels of the objects of each level, both included.
        sigma: side of the centre region relative to that of the box.
        conflict: the object that gets a cell which several claim: the ``smaller`` mask, the ``last`` object, or
            ``all``.
        tables: keeps the tensors that follow from grids, ranges and canvas for the next call.

    Raises:
        ValueError: there are not as many grids as ranges.
    """
    if len(grids) != len(scale_ranges):
        raise ValueError(f"There are {len(grids)} grids and {len(scale_ranges)} scale ranges; each level has one each.")
    masks = [target["masks"] for target in targets]
    device, canvas = masks[0].device, tuple(masks[0].shape[-2:])
    table = (tables or TensorCache()).get(_level_table, tuple(grids), tuple(scale_ranges), canvas, device=device)
    grid, sides_of_canvas, low, high, before = torch.split(table, [2, 2, 1, 1, 1], dim=1)  # each [L, 2] or [L, 1]
    num_cells = sum(rows * columns for rows, columns in grids)
    numbers = [len(of_image) for of_image in masks]

    centres, areas = mass_centres(*(torch.cat(sums) for sums in zip(*map(pixels_of_lines, masks), strict=True)))
    boxes = torch.cat([target["boxes"] for target in targets]).double()
    sides = boxes[:, 2:] - boxes[:, :2]
    sizes = sides.prod(dim=1).sqrt()[:, None]
    in_charge = (sizes >= low[:, 0]) & (sizes <= high[:, 0]) & (areas[:, None] > 0)  # [N, L]

    # Numbers of cells are float64 as well, which holds them exactly.
    half = 0.5 * sigma * sides.flip(1)  # of the region; rows first, as all that follows
    places = torch.stack([centres, centres - half, centres + half])[:, :, None]
    centre_cell, first, last = (places * grid / sides_of_canvas).floor()[..., None]  # each [N, L, 2, 1]
    first, last = first.clamp(min=0), last.minimum((grid - 1)[..., None])
    around = centre_cell + torch.arange(-1, 2, device=device)  # [N, L, 2, 3]
    touched = (around >= first) & (around <= last)
    claimed = touched[:, :, 0, :, None] & touched[:, :, 1, None, :] & in_charge[..., None, None]  # [N, L, 3, 3]
    cell = around[:, :, 0, :, None] * grid[:, 1, None, None] + around[:, :, 1, None, :] + before[..., None]
    cell = cell.long()  # of the object's image
    of_batch = cell
    if len(targets) > 1:
        start = torch.cat([areas.new_full((number,), i * num_cells) for i, number in enumerate(numbers)])
        of_batch = cell + start[:, None, None, None]
    nowhere = len(targets) * num_cells  # One more cell stands for all cells that an object does not claim.
    of_batch = of_batch.where(claimed, nowhere)

    # The object that comes later in this order gets the cell; rank 0 is the background.
    as_given = torch.arange(len(areas), device=device)
    order = areas.argsort(descending=True, stable=True) if conflict == "smaller" else as_given
    rank = torch.empty_like(order)
    rank[order] = as_given + 1
    ranks = rank[:, None, None, None].expand_as(cell)
    owner = rank.new_zeros(nowhere + 1).scatter_reduce(0, of_batch.flatten(), ranks.flatten(), "amax")
    kept = claimed if conflict == "all" else claimed & (owner[of_batch] == ranks)
    labels = torch.cat([order.new_full((1,), num_things), torch.cat([target["labels"] for target in targets])[order]])
    categories = labels[owner[:nowhere]].view(len(targets), num_cells)
    place = kept.nonzero()
    objects, cells = place[:, 0], cell[place.unbind(1)]
    if len(targets) == 1:
        return [CellTargets(categories=categories[0], cells=cells, objects=objects)]
    starts = [0, *accumulate(numbers)]
    listed = objects.tolist()
    pairs = [bisect_left(listed, start) for start in starts]
    return [
        CellTargets(categories[i], cells[pairs[i] : pairs[i + 1]], objects[pairs[i] : pairs[i + 1]] - starts[i])
        for i in range(len(targets))
    ]


def _level_table(
    grids: Sequence[tuple[int, int]],
    scale_ranges: Sequence[tuple[float, float]],
    canvas: tuple[int, int],
    *,
    device: torch.device,
) -> Tensor:
    """Return of each level rows, columns, canvas, least and greatest size, and cells before it, float64 ``[L, 7]``."""
    before = accumulate((rows * columns for rows, columns in grids), initial=0)
    levels = [(*grid, *canvas, *sizes, first) for grid, sizes, first in zip(grids, scale_ranges, before, strict=False)]
    return torch.tensor(levels, dtype=torch.float64, device=device)


def pixels_of_lines(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of pixels in each row ``[N, H]`` and in each column ``[N, W]`` of masks ``[N, H, W]``."""
    in_row, in_column = [], []
    # A few masks at a time: sums of booleans copy their whole input to a wider type.
    for chunk in torch.split(masks, _masks_at_a_time(masks)):
        pixels = chunk.float()
        in_row.append(pixels.sum(dim=2))
        in_column.append(pixels.sum(dim=1))
    return torch.cat(in_row), torch.cat(in_column)


def mass_centres(in_row: Tensor, in_column: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean pixel centre (y, x) float64 ``[N, 2]`` and the area int64 ``[N]`` of N masks.

    The centre of a mask without any pixel is (0, 0).

    Args:
        in_row: number of pixels in each row ``[N, H]``, see ``pixels_of_lines``.
        in_column: number of pixels in each column ``[N, W]``.

    >>> mass_centres(*pixels_of_lines(torch.tensor([[[False, True, True], [False, True, False]]])))[0].tolist()
    [[0.8333333333333334, 1.8333333333333333]]
    """
    in_row, in_column = in_row.double(), in_column.double()
    areas = in_row.sum(dim=1)
    moments = torch.stack([line @ _pixel_centres(line) for line in (in_row, in_column)], dim=1)
    return moments / areas.clamp(min=1)[:, None], areas.long()


def _pixel_centres(line: Tensor) -> Tensor:
    return torch.arange(line.shape[1], dtype=line.dtype, device=line.device) + 0.5


def _masks_at_a_time(masks: Tensor) -> int:
    """Return how many masks ``[N, H, W]`` are turned into numbers together; on a GPU many, each call costs time."""
    return max(1, _PIXELS_AT_A_TIME_ON_CUDA // max(1, masks[0:1].numel())) if masks.is_cuda else _MASKS_AT_A_TIME


def stride4_masks(masks: Tensor) -> Tensor:
    """Return masks at a quarter of their height and width: how much of each 4x4 block they cover.

    The originals resize bilinearly (WXinlong/SOLO: cv2.resize by 0.25), which reads 4 of 16 pixels and can lose a
    small or thin object altogether; its share of a block cannot get lost.

    Args:
        masks: bool ``[N, H, W]``, H and W multiples of 4.

    Returns:
        float32 ``[N, H/4, W/4]`` in [0, 1].

    >>> stride4_masks(torch.eye(4, dtype=torch.bool)[None]).tolist()
    [[[0.25]]]
    """
    # A few masks at a time, because their copies as float numbers are large.
    return torch.cat(
        [avg_pool2d(chunk[:, None].float(), 4)[:, 0] for chunk in torch.split(masks, _masks_at_a_time(masks))]
    )


def default_scale_ranges(short_side: int) -> tuple[tuple[float, float], ...]:
    """Return the sizes of objects, in pixels, that each of five levels is in charge of.

    Those published for COCO, whose images have a short side of 768, scaled (WXinlong/SOLO: configs/solov2; their
    light models are scaled in the same way, by 448/768 and 512/768). Unlike there, the first starts at 0 and the last
    has no end, so that every object belongs to a level.

    Args:
        short_side: short side of the network's input, in pixels.

    Returns:
        Least and greatest size of each level, finest first; neighbours overlap, as published.

    >>> default_scale_ranges(512)
    ((0.0, 64.0), (32.0, 128.0), (64.0, 256.0), (128.0, 512.0), (256.0, inf))
    """
    published = ((0.0, 96.0), (48.0, 192.0), (96.0, 384.0), (192.0, 768.0), (384.0, float("inf")))
    return tuple((low * short_side / 768, high * short_side / 768) for low, high in published)
