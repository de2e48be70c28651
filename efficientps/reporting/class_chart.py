"""A bar chart of the panoptic quality of each class, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from efficientps.lettering import text_picture, text_width, warn_of_missing
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.visualization import Color

_LETTERS = 10
"""Size of the letters of names in points, that of matplotlib."""

_WIDEST = 230
"""Width of a name in points; the chart is 576 points wide."""


def class_figure(result: PanopticQualityResult, names: Sequence[str], colors: Sequence[Color]) -> Figure:
    """Draw the panoptic quality of each class as a bar, the best at the top; classes without segments are left out.

    Args:
        result: the panoptic quality of an evaluation.
        names: names of the classes, by train_id.
        colors: colours of the classes, by train_id.
    """
    occurs = np.flatnonzero(result.tp + result.fp + result.fn)
    order = occurs[np.argsort(result.pq[occurs], kind="stable")]
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    shades = [tuple(channel / 255 for channel in colors[train_id]) for train_id in order]
    rows = np.arange(len(order))
    bars = axes.barh(rows, 100 * result.pq[order], color=shades, edgecolor="#333", linewidth=0.5)
    _write_names(axes, [_fitting(names[i]) for i in order])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.axvline(100 * result.all.pq, color="#333", linestyle="--", linewidth=1)
    axes.set(xlim=(0, 109), xlabel=f"PQ (mean {100 * result.all.pq:.1f}, dashed)", title="Panoptic quality by class")
    return figure


def _fitting(name: str) -> str:
    """Return a name, without its middle where it is so long that no room is left for the bars."""
    kept, shown = len(name), name
    while text_width(shown, _LETTERS) > _WIDEST:
        kept -= 1
        shown = f"{name[: (kept + 1) // 2]}...{name[len(name) - kept // 2 :]}"
    return shown


def _write_names(axes: Axes, names: Sequence[str]) -> None:
    """Write a name beside each row; matplotlib itself writes ASCII, other letters are those of the overlays."""
    warn_of_missing(tuple(names))
    axes.set_yticks(range(len(names)), [name if name.isascii() else "" for name in names], parse_math=False)
    fine = 4  # pixels of a picture per point
    for row, name in enumerate(names):
        if not name.isascii():
            picture = OffsetImage(np.asarray(text_picture(name, _LETTERS * fine)), zoom=1 / fine, resample=True)
            axes.add_artist(
                AnnotationBbox(
                    picture,
                    (0, row),
                    xycoords=("axes fraction", "data"),
                    xybox=(-6, 0),
                    boxcoords="offset points",
                    box_alignment=(1, 0.5),
                    frameon=False,
                    pad=0,
                )
            )
