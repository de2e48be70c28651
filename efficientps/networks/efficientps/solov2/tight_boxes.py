"""Boxes around masks at the size of the image, without drawing the masks there."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efficientps.structures.boxes_of_masks import boxes_of_masks, span


def tight_boxes(mask_logits: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return the box around the positive logits of each mask at the size of the image.

    Args:
        mask_logits: float32 ``[N, h/4, w/4]``.
        image_size: ``(h, w)`` in pixels.

    Returns:
        float32 ``[N, 4]``, xyxy in pixels, half-open; zeros for a mask without a pixel.
    """
    height, width = image_size
    boxes, sure = boxes_from_ends(mask_logits, image_size)
    for index in (~sure).nonzero().flatten().tolist():  # rare: drawn whole
        inside = interpolate(mask_logits[None, index : index + 1], scale_factor=4, mode="bilinear")[0] > 0
        inside = inside[:, :height, :width]
        boxes[index] = boxes_of_masks(inside)[0]
    return boxes


def boxes_from_ends(mask_logits: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the boxes of ``tight_boxes``, read from the outermost rows and columns of cells of each mask.

    Above the first row of cells with a positive one, and further than a cell from it, no pixel is positive; so three
    rows of cells are drawn at each end. There is hardly ever no positive pixel in them: then the box is not certain.
    Nothing here waits for a device.

    Returns:
        The boxes ``[N, 4]``, and whether they are certain, bool ``[N]``. An empty mask is certain.
    """
    height, width = image_size
    axes = (_ends_of_rows(mask_logits.mT, width, height), _ends_of_rows(mask_logits, height, width))
    first_pixel, occupied, has_cells = (torch.stack(values, dim=1) for values in zip(*axes, strict=True))
    first, after = span(occupied.view(torch.uint8))  # [N, axis, end] in the rows of pixels that were drawn
    begin, end = first_pixel[..., 0] + first[..., 0], first_pixel[..., 1] + after[..., 1]
    boxes = torch.stack([begin, end], dim=1) * has_cells[:, None]  # [N, end, axis]
    return boxes.flatten(1).to(mask_logits), ((after > 0).all(dim=2) | ~has_cells).all(dim=1)


def _ends_of_rows(mask_logits: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the ends of each mask: around the first row of cells with a positive one, and around the last.

    Returns:
        Of both ends the first row of pixels, int64 ``[N, 2]``, and whether any pixel of it and of the nine rows after
        it is positive, bool ``[N, 2, 10]``; and whether any cell of the mask is, bool ``[N]``.
    """
    cells, columns = mask_logits.shape[1:]
    first, after = span((mask_logits.amax(dim=2) > 0).view(torch.uint8))
    around = torch.stack([first, after - 1], dim=1)[..., None] + torch.arange(-1, 2, device=first.device)
    strips = mask_logits.gather(1, around.flatten(1).clamp(0, cells - 1)[..., None].expand(-1, -1, columns))
    pixels = interpolate(strips.view(-1, 1, 3, columns), scale_factor=4, mode="bilinear")[..., :width]
    occupied = (pixels.amax(dim=3) > 0).view(-1, 2, 12)
    # The rows that are left out, beyond the centres of the outer cells, would need one cell more.
    occupied = torch.stack([occupied[:, 0, :10], occupied[:, 1, 2:]], dim=1)
    first_pixel = 4 * around[..., 0] + torch.arange(0, 4, 2, device=first.device)
    place = first_pixel[..., None] + torch.arange(10, device=first.device)
    return first_pixel, occupied & (place >= 0) & (place < height), after > 0
