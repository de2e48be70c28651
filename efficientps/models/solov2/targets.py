"""Which cell of SOLOv2's grids is responsible for which object, and the masks that its kernels learn.

Coordinates are continuous: pixel i covers [i, i + 1] and has its centre at i + 0.5, boxes are half-open, and the grid
of each level spans [0, H] x [0, W] of the padded canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from efficientps.structures import InstanceTargets

_MASKS_AT_A_TIME = 8


class CellTargets(NamedTuple):
    """What the cells of all levels learn in one image; cells are numbered row by row, level 0 first.

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
        targets: of one image; the size of its masks is the canvas.
        num_things: number of thing classes; the category of a cell without object.
        grids: rows and columns of each level.
        scale_ranges: least and greatest size in pixels of the objects of each level, both included.
        sigma: side of the centre region relative to that of the box.
        conflict: who has a cell that several objects claim: the ``smaller`` mask (of equal ones the later object) or
            the ``last`` object, whereupon the others lose their pair; or ``all``, as in the originals, where the cell
            takes the category of the last object but learns the masks of all.

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
    masks, boxes = targets["masks"], targets["boxes"].double()
    device = masks.device
    if len(grids) != len(scale_ranges):
        raise ValueError(f"There are {len(grids)} grids and {len(scale_ranges)} scale ranges; each level has one each.")
    centres, areas = mass_centres(masks)
    sides = boxes[:, 2:] - boxes[:, :2]
    sizes = sides.prod(dim=1).sqrt()
    low, high = torch.tensor(scale_ranges, dtype=torch.float64, device=device).unbind(1)
    in_charge = (sizes[:, None] >= low) & (sizes[:, None] <= high) & (areas[:, None] > 0)  # [N, L]

    grid = torch.tensor(grids, device=device)  # rows and columns, [L, 2]
    canvas = centres.new_tensor(masks.shape[-2:])
    half = 0.5 * sigma * sides.flip(1)  # of the region; rows first, as all that follows
    centre_cell, first, last = (
        (place[:, None] * grid / canvas).floor().long() for place in (centres, centres - half, centres + half)
    )
    first, last = first.clamp(min=0), torch.minimum(last, grid - 1)
    around = centre_cell[..., None] + torch.arange(-1, 2, device=device)  # [N, L, 2, 3]
    touched = (around >= first[..., None]) & (around <= last[..., None])
    claimed = touched[:, :, 0, :, None] & touched[:, :, 1, None, :] & in_charge[..., None, None]  # [N, L, 3, 3]

    cells_of_level = [rows * columns for rows, columns in grids]
    num_cells = sum(cells_of_level)
    before = torch.tensor([0, *cells_of_level[:-1]], device=device).cumsum(0)
    cell = before[:, None, None] + around[:, :, 0, :, None] * grid[:, 1, None, None] + around[:, :, 1, None, :]
    cell = cell.where(claimed, num_cells)  # One more cell takes all that is not claimed.

    # Whoever comes later in this order has the cell; rank 0 is the background's.
    as_given = torch.arange(len(areas), device=device)
    order = areas.argsort(descending=True, stable=True) if conflict == "smaller" else as_given
    rank = torch.empty_like(order)
    rank[order] = as_given + 1
    ranks = rank[:, None, None, None].expand_as(cell)
    owner = rank.new_zeros(num_cells + 1).scatter_reduce(0, cell.flatten(), ranks.flatten(), "amax")
    kept = claimed if conflict == "all" else claimed & (owner[cell] == ranks)
    labels = torch.cat([order.new_full((1,), num_things), targets["labels"][order]])
    place = kept.nonzero(as_tuple=True)
    return CellTargets(categories=labels[owner[:num_cells]], cells=cell[place], objects=place[0])


def mass_centres(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean pixel centre (y, x) float64 ``[N, 2]`` and the area int64 ``[N]`` of bool masks ``[N, H, W]``.

    The centre of a mask without any pixel is (0, 0).

    >>> mass_centres(torch.tensor([[[False, True, True], [False, True, False]]]))[0].tolist()
    [[0.8333333333333334, 1.8333333333333333]]
    """
    count, height, width = masks.shape
    in_row = torch.empty(count, height, dtype=torch.float64, device=masks.device)
    in_column = torch.empty(count, width, dtype=torch.float64, device=masks.device)
    # A few masks at a time: sums of booleans copy their whole input to a wider type.
    for start in range(0, count, _MASKS_AT_A_TIME):
        some = slice(start, start + _MASKS_AT_A_TIME)
        pixels = masks[some].float()
        in_row[some], in_column[some] = pixels.sum(dim=2), pixels.sum(dim=1)
    areas = in_row.sum(dim=1)
    moments = torch.stack([(line * (_arange_like(line) + 0.5)).sum(dim=1) for line in (in_row, in_column)], dim=1)
    return moments / areas.clamp(min=1)[:, None], areas.long()


def _arange_like(line: Tensor) -> Tensor:
    return torch.arange(line.shape[1], dtype=line.dtype, device=line.device)


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
    count, height, width = masks.shape
    result = torch.empty(count, height // 4, width // 4, device=masks.device)
    for start in range(0, count, _MASKS_AT_A_TIME):
        some = slice(start, start + _MASKS_AT_A_TIME)
        result[some] = avg_pool2d(masks[some].float(), 4)
    return result


def default_scale_ranges(short_side: int) -> tuple[tuple[float, float], ...]:
    """Return the sizes of objects, in pixels, that each of five levels is in charge of.

    Those published for COCO, whose images have a short side of 768, scaled (WXinlong/SOLO: configs/solov2; their
    light models scale likewise, by 448/768 and 512/768). Unlike there, the first starts at 0 and the last has no end:
    no object belongs to no level.

    Args:
        short_side: of the network's input, in pixels.

    Returns:
        Least and greatest size of each level, finest first; neighbours overlap, as published.

    >>> default_scale_ranges(512)
    ((0.0, 64.0), (32.0, 128.0), (64.0, 256.0), (128.0, 512.0), (256.0, inf))
    """
    published = ((0.0, 96.0), (48.0, 192.0), (96.0, 384.0), (192.0, 768.0), (384.0, float("inf")))
    return tuple((low * short_side / 768, high * short_side / 768) for low, high in published)
