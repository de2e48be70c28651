"""The anchors of a pyramid, computed once for each size of the pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

_LAYOUTS_KEPT = 4
"""Sizes of a pyramid whose anchors are kept; those of a 1024x2048 image weigh 8 MB."""


class PyramidAnchors(nn.Module):
    """Lays out anchors over the levels of a pyramid, and keeps them on their device for the next image of that size.

    Kept anchors are no part of the state dict, of a copy or of a pickle; a move to another device drops them.

    Args:
        sizes: side in pixels of the anchors of each level.
        aspect_ratios: height by width of the anchors at each cell.
        strides: strides of each level, in pixels.
        shift: shift of the anchors to the right and down, in strides; 0 centres them on the corners of the cells.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int],
        shift: float = 0.0,
    ) -> None:
        super().__init__()
        self.generator = AnchorGenerator(tuple((size,) for size in sizes), (tuple(aspect_ratios),) * len(sizes))
        self.strides = tuple(strides)
        self.shift = shift
        self.per_cell = len(aspect_ratios)
        self._kept: dict[tuple[tuple[tuple[int, int], ...], torch.device], Tensor] = {}

    def forward(self, grids: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """Return the anchors of all levels, float32 ``[A, 4]``, xyxy in pixels.

        They are ordered by level, row, column and aspect ratio.

        Args:
            grids: height and width in cells of each level.
            device: device of the result.
        """
        key = (tuple(grids), device)
        if key not in self._kept:
            if len(self._kept) == _LAYOUTS_KEPT:
                del self._kept[next(iter(self._kept))]
            # Tensors that were made in inference mode could not be used in training.
            with torch.inference_mode(False):
                levels = self.generator.grid_anchors([list(grid) for grid in grids], [[s, s] for s in self.strides])
                shifted = [level + self.shift * stride for level, stride in zip(levels, self.strides, strict=True)]
                self._kept[key] = torch.cat(shifted).to(device)
        return self._kept[key]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PyramidAnchors:
        self._kept = {}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy or a pickle: everything but the kept anchors."""
        return {**self.__dict__, "_kept": {}}
