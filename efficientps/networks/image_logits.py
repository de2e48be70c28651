"""Logits at the size of an image file: read from memory, or interpolated where they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

_VALUES_ON_CPU, _VALUES_ON_GPU = 2**20, 2**24
"""Logits that are interpolated at once: on a CPU as many as fit its cache, on a GPU 64 MiB of them."""

Window = tuple[int, int, int, int]
"""A half-open window of pixels, ``(x0, y0, x1, y1)``."""


class ImageLogits(Protocol):
    """Logits of C classes or masks at the size of an image, float ``[C, h, w]``, whether or not they are in memory."""

    @property
    def size(self) -> tuple[int, int]:
        """Size ``(h, w)`` of the image."""
        ...

    def __len__(self) -> int:
        """Return the number of channels C."""
        ...

    def stripes(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the image from top to bottom in stripes of whole rows: the rows, and the logits ``[C, rows, w]``."""
        ...

    def window(self, channel: int, window: Window) -> Tensor:
        """Return the logits of one channel in a window, float ``[y1 - y0, x1 - x0]``."""
        ...

    def at(self, channel: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Return the logits at T places, ``[T]``; channels and pixels are int32 ``[T]``."""
        ...


@dataclass(frozen=True)
class DenseLogits:
    """Logits that lie in memory at the size of the image.

    Attributes:
        logits: float ``[C, h, w]``.
    """

    logits: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Size ``(h, w)`` of the image."""
        return self.logits.shape[1], self.logits.shape[2]

    def __len__(self) -> int:
        """Return the number of channels."""
        return len(self.logits)

    def stripes(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the whole image as one stripe."""
        yield slice(0, self.size[0]), self.logits

    def window(self, channel: int, window: Window) -> Tensor:
        """Return a view of one channel."""
        x0, y0, x1, y1 = window
        return self.logits[channel, y0:y1, x0:x1]

    def at(self, channel: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Return the logits at T places."""
        return self.logits[channel, y, x]


class _Axis(NamedTuple):
    """The two cells of an axis between which each of L pixels lies."""

    first: Tensor  # int64 [L]
    second: Tensor  # int64 [L]
    weight: Tensor  # float32 [L], of the second cell


@dataclass(frozen=True)
class ImageOnCanvas:
    """Positions of the pixels of an image file in the grid of logits that a network computes for its canvas.

    The network saw the image resized to ``image_size``, in the top-left corner of a canvas whose rest is padding. Its
    grid of logits covers the whole canvas. The centre of pixel x of the file lies at ``(x + 0.5) * w / W`` on the
    canvas, for a width w on the canvas and W of the file; and with n cells on C pixels of the canvas, at n / C of that,
    less 0.5, in the grid. Between the centres of cells the interpolation is bilinear, and beyond the outermost ones
    constant (``align_corners=False``).

    Attributes:
        cells: ``(m, n)`` of the grid.
        canvas: ``(4 m, 4 n)`` in networks that predict at stride 4.
        image_size: ``(h, w)`` of the image on the canvas.
        size: ``(H, W)`` of the image file.
        device: device of the logits.
    """

    cells: tuple[int, int]
    canvas: tuple[int, int]
    image_size: tuple[int, int]
    size: tuple[int, int]
    device: torch.device

    @cached_property
    def axes(self) -> tuple[_Axis, _Axis]:
        """The axes y and x, made once."""
        return self._axis(0), self._axis(1)

    def stripes(self, pixels: int) -> Iterator[slice]:
        """Split the image file into stripes of whole rows, of at most so many pixels or of one row.

        There is one stripe alone where the network saw the image at its own size: ``rows`` enlarges that as a whole.
        """
        height, width = self.size
        step = height if self.is_own_size else max(1, pixels // width)
        for top in range(0, height, step):
            yield slice(top, min(top + step, height))

    @property
    def is_own_size(self) -> bool:
        """Whether the network saw the image at the size of the file."""
        return self.image_size == self.size

    def rows(self, logits: Tensor, rows: slice) -> Tensor:
        """Interpolate logits ``[C, m, n]`` in rows of the image file, one of ``stripes``; ``[C, rows, W]``."""
        height, width = self.size
        if not self.is_own_size:
            return self.enlarge(logits, (0, rows.start, width, rows.stop))
        # Enlarged as a whole and then cropped: resizing the grid of the canvas to the size of the image would shift all
        # pixels. This is as exact as ``enlarge``, and faster.
        whole = interpolate(logits[None], size=self.canvas, mode="bilinear", align_corners=False)
        return whole[0, :, :height, :width]

    def enlarge(self, logits: Tensor, window: Window) -> Tensor:
        """Interpolate logits ``[C, m, n]`` in a window of the image file, ``[C, y1 - y0, x1 - x0]``."""
        x0, y0, x1, y1 = window
        # Only the cells that the window needs: those of its first pixel to those of its last.
        top, left = self._cell(0, y0), self._cell(1, x0)
        bottom, right = self._cell(0, y1 - 1) + 2, self._cell(1, x1 - 1) + 2
        part = logits[:, top:bottom, left:right]
        on_y, on_x = self.axes
        y, x = (_Axis(*(of_axis[low:high] for of_axis in axis)) for axis, low, high in ((on_y, y0, y1), (on_x, x0, x1)))
        # Columns first: the rows of cells are few.
        part = _between(part, 2, x.first - left, x.second - left, x.weight)
        return _between(part, 1, y.first - top, y.second - top, y.weight[:, None])

    def gather(self, logits: Tensor, channel: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Interpolate logits ``[C, m, n]`` at T pixels of T channels, ``[T]``, all int32."""
        rows, columns = self.cells
        on_y, on_x = self.axes
        on_y, on_x = (_Axis(*(values.index_select(0, at) for values in axis)) for axis, at in ((on_y, y), (on_x, x)))
        start = channel.long() * (rows * columns)
        flat = logits.reshape(-1)

        def on_row(row: Tensor) -> Tensor:
            begin = start + row * columns
            first, second = (flat.index_select(0, begin + cell) for cell in (on_x.first, on_x.second))
            return torch.lerp(first, second, on_x.weight)

        return torch.lerp(on_row(on_y.first), on_row(on_y.second), on_y.weight)

    def _ratio(self, axis: int) -> float:
        """Cells of the grid for each pixel of the image file."""
        return (self.cells[axis] * self.image_size[axis]) / (self.canvas[axis] * self.size[axis])

    def _axis(self, axis: int) -> _Axis:
        """Computed in float64, because float32 gives neighbouring pixels of a large image the same position."""
        last = self.cells[axis] - 1
        pixels = torch.arange(self.size[axis], dtype=torch.float64, device=self.device)
        position = (((pixels + 0.5) * self._ratio(axis)) - 0.5).clamp_(0, last)
        first = position.floor()
        cell = first.long()
        return _Axis(cell, (cell + 1).clamp_(max=last), (position - first).float())

    def _cell(self, axis: int, pixel: int) -> int:
        """Return the first of the two cells of a pixel, as ``_axis`` finds it, without asking the device."""
        return int(min(max((pixel + 0.5) * self._ratio(axis) - 0.5, 0.0), self.cells[axis] - 1))


def _between(values: Tensor, dim: int, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    low = values.index_select(dim, first)
    return low.lerp_(values.index_select(dim, second), weight)


@dataclass(frozen=True)
class CanvasLogits:
    """Logits at stride 4 of a network's canvas, interpolated to the size of the image file where they are read.

    Nothing of size ``[C, H, W]`` is built: stripes are as high as a fixed number of values allows.

    Attributes:
        logits: float32 ``[C, m, n]``.
        place: place of the image on the canvas.
    """

    logits: Tensor
    place: ImageOnCanvas

    @property
    def size(self) -> tuple[int, int]:
        """Size ``(H, W)`` of the image file."""
        return self.place.size

    def __len__(self) -> int:
        """Return the number of channels."""
        return len(self.logits)

    def stripes(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the image from top to bottom, a stripe of rows at a time."""
        values = _VALUES_ON_CPU if self.logits.device.type == "cpu" else _VALUES_ON_GPU
        for rows in self.place.stripes(values // max(1, len(self.logits))):
            yield rows, self.place.rows(self.logits, rows)

    def window(self, channel: int, window: Window) -> Tensor:
        """Return the logits of one channel in a window."""
        return self.place.enlarge(self.logits[channel : channel + 1], window)[0]

    def at(self, channel: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Return the logits at T places."""
        return self.place.gather(self.logits, channel, y, x)


def logits_of_image(
    logits: Tensor, *, canvas: tuple[int, int], image_size: tuple[int, int], size: tuple[int, int]
) -> ImageLogits:
    """Return the logits of a canvas at the size of the image file.

    An image that the network saw at its own size is interpolated at once, for that is faster.

    Args:
        logits: float32 ``[C, m, n]``, contiguous; the grid covers the whole canvas.
        canvas: its size in pixels.
        image_size: ``(h, w)`` of the image in the canvas's top-left corner.
        size: ``(H, W)`` of the image file.
    """
    place = ImageOnCanvas((logits.shape[1], logits.shape[2]), canvas, image_size, size, logits.device)
    if place.is_own_size:
        return DenseLogits(place.rows(logits, slice(0, size[0])))
    return CanvasLogits(logits, place)
