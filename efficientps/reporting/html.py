"""A report of an evaluation that can be handed on: one HTML file with everything inside, and its pictures as PNGs.

matplotlib draws; figures are objects of their own, so that nothing is shared with other users of the library.
"""

from __future__ import annotations

import base64
import csv
import heapq
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from efficientps.atomic_file import write_text
from efficientps.metrics.panoptic_matching import PanopticCounts
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.visualization import Color, Picture

Curve: TypeAlias = list[tuple[float, float]]
"""Pairs of step and value."""

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f3f3f3}figure{margin:1.5em 0}"
)


class ScoredImage(NamedTuple):
    """An image of an evaluation: its id, its own panoptic quality in [0, 1], and a picture of what was found."""

    image_id: str
    pq: float
    picture: Picture


class WorstImages:
    """The images with the lowest panoptic quality of all that were offered; no more than these are kept.

    Args:
        number: how many.
    """

    def __init__(self, number: int) -> None:
        """Open nothing yet."""
        self._number = number
        self._heap: list[tuple[float, int, ScoredImage]] = []
        self._order = count()

    def offer(self, image_id: str, counts: PanopticCounts, paint: Callable[[], Picture]) -> None:
        """Keep an image if it is among the worst so far.

        Args:
            image_id: id of the image.
            counts: its matches, class by class.
            paint: makes the picture; called for those images only that are kept.
        """
        pq = image_quality(counts)
        if self._number and not math.isnan(pq) and (len(self._heap) < self._number or pq < -self._heap[0][0]):
            heapq.heappush(self._heap, (-pq, -next(self._order), ScoredImage(image_id, pq, paint())))
            if len(self._heap) > self._number:
                heapq.heappop(self._heap)

    @property
    def images(self) -> list[ScoredImage]:
        """What was kept, the worst first."""
        return worst_first(image for _, _, image in self._heap)


def worst_first(images: Iterable[ScoredImage]) -> list[ScoredImage]:
    """Sort images by their quality, and those of one quality by their ids."""
    return sorted(images, key=lambda image: (image.pq, image.image_id))


def image_quality(counts: PanopticCounts) -> float:
    """Return the panoptic quality of one image: the mean over the classes that occur in it or were found; NaN if none.

    >>> import torch
    >>> zero = torch.zeros(2, dtype=torch.int64)
    >>> iou = torch.tensor([0.8, 0.0], dtype=torch.float64)
    >>> image_quality(PanopticCounts(iou, torch.tensor([1, 0]), zero, torch.tensor([0, 1])))
    0.4
    """
    iou, tp, fp, fn = (values.cpu().double().numpy() for values in counts)
    size = tp + 0.5 * fp + 0.5 * fn
    return float((iou[size > 0] / size[size > 0]).mean()) if (size > 0).any() else math.nan


def read_curves(path: str | os.PathLike[str]) -> dict[str, Curve]:
    """Read the columns of a ``metrics.csv`` over its column ``step``, what is empty or not finite left out.

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


def class_figure(result: PanopticQualityResult, names: Sequence[str], colors: Sequence[Color]) -> Figure:
    """Draw the panoptic quality of each class as a bar, the best at the top; classes that do not occur are left out.

    Args:
        result: the figures.
        names: of the classes, by train_id.
        colors: of the classes, by train_id.
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


def curve_figure(curves: Mapping[str, Curve], title: str, *, scale: float = 1.0) -> Figure:
    """Draw curves over the steps of training; long ones thin, with their running mean on top.

    Args:
        curves: by their names.
        title: of the figure.
        scale: factor of the values (100 for percent).
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


def write_report(
    directory: Path,
    *,
    title: str,
    result: PanopticQualityResult,
    names: Sequence[str],
    colors: Sequence[Color],
    curves: Mapping[str, Curve] | None = None,
    worst: Sequence[ScoredImage] = (),
) -> Path:
    """Write ``report.html`` with all pictures inside, and these as PNG files beside it.

    Args:
        directory: is created; files of the same names are replaced.
        title: heading of the report.
        result: the figures.
        names: of the classes, by train_id.
        colors: of the classes, by train_id.
        curves: what was logged in training, as ``read_curves`` returns it; loss and quality are drawn.
        worst: images to be shown, in this order.

    Returns:
        The HTML file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    figures = {"per_class_pq": class_figure(result, names, colors)}
    losses = {name: curve for name, curve in (curves or {}).items() if name.startswith("train/loss")}
    qualities = {name: curve for name, curve in (curves or {}).items() if name.startswith("val/PQ")}
    if losses:
        figures["loss"] = curve_figure(losses, "Loss")
    if qualities:
        figures["pq"] = curve_figure(qualities, "Panoptic quality in validation", scale=100)
    shown: list[tuple[Path, str]] = []
    for name, figure in figures.items():
        path = directory / f"{name}.png"
        figure.savefig(path, dpi=120)
        shown.append((path, ""))
    for rank, image in enumerate(worst, start=1):
        path = directory / f"worst_{rank:02d}_{image.image_id}.png"
        Image.fromarray(image.picture).save(path)
        shown.append((path, f"{rank}. {image.image_id}: PQ {100 * image.pq:.1f}"))
    html = directory / "report.html"
    write_text(html, _page(title, result, names, shown))
    return html


def _page(title: str, result: PanopticQualityResult, names: Sequence[str], shown: Sequence[tuple[Path, str]]) -> str:
    """Return the HTML; names and ids come from files and are escaped."""
    averages = (("All", result.all), ("Things", result.things), ("Stuff", result.stuff))
    summary = _table(
        ("", "PQ", "SQ", "RQ", "classes"),
        [(name, *(f"{100 * value:.1f}" for value in average[:3]), str(average.n)) for name, average in averages],
    )
    rows = [
        (name, *(f"{100 * quality[i]:.1f}" for quality in (result.pq, result.sq, result.rq)), *map(str, counts))
        for i, (name, *counts) in enumerate(zip(names, result.tp, result.fp, result.fn, strict=True))
    ]
    classes = _table(("class", "PQ", "SQ", "RQ", "TP", "FP", "FN"), rows)
    pictures = [(_figure(path, caption), caption) for path, caption in shown]
    plots = "".join(picture for picture, caption in pictures if not caption)
    worst = "".join(picture for picture, caption in pictures if caption)
    heading = "<h2>The worst images</h2>" if worst else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{summary}{plots}{heading}{worst}"
        f"<h2>All classes</h2>{classes}</body></html>\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(caption or path.stem)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
