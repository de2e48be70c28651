"""A bar chart of the panoptic quality of each class, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.visualization import Color


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
    bars = axes.barh([names[i] for i in order], 100 * result.pq[order], color=shades, edgecolor="#333", linewidth=0.5)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.axvline(100 * result.all.pq, color="#333", linestyle="--", linewidth=1)
    axes.set(xlim=(0, 109), xlabel=f"PQ (mean {100 * result.all.pq:.1f}, dashed)", title="Panoptic quality by class")
    return figure
