"""Curves of a training, read from its log and drawn with matplotlib."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from matplotlib.figure import Figure

Curve: TypeAlias = list[tuple[float, float]]
"""Pairs of step and value."""


def read_curves(path: str | os.PathLike[str]) -> dict[str, Curve]:
    """Read each column of a ``metrics.csv`` over the column ``step``; values that are empty or not finite are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no column ``step``, or a step that is no number.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise FileNotFoundError(f"Log '{path}' does not exist.") from None
    curves: dict[str, Curve] = {}
    for row in rows:
        try:
            step = float(row["step"])
            values = {name: float(value) for name, value in row.items() if name and value and name != "step"}
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"Log '{path}' is not the metrics.csv of a run; it has no numbers for each 'step'."
            ) from None
        for name, value in values.items():
            if math.isfinite(value):
                curves.setdefault(name, []).append((step, value))
    return curves


def curve_figure(curves: Mapping[str, Curve], title: str, *, scale: float = 1.0) -> Figure:
    """Draw curves over the steps of training; a long curve is a thin line under its running mean.

    Args:
        curves: each curve by its name.
        title: title of the figure.
        scale: factor of the values; 100 gives percent.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        steps, values = np.array(curve, dtype=np.float64).T
        (line,) = axes.plot(steps, scale * values, label=name, linewidth=1.5, marker="o" if len(curve) < 30 else "")
        window = len(curve) // 20
        if window > 1:
            line.set(linewidth=0.5, alpha=0.5, label=None)
            mean = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(steps[window - 1 :], scale * mean, label=name, color=line.get_color(), linewidth=1.5)
    axes.set(xlabel="step", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
