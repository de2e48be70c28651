"""The report of an evaluation: one HTML file that contains everything, and its pictures as PNG files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from efficientps.atomic_file import atomic_file, write_text
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.reporting.class_chart import class_figure
from efficientps.reporting.curves import Curve, curve_figure
from efficientps.reporting.worst_images import ScoredImage
from efficientps.visualization import Color

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:right}"
    "h1,td:first-child,figcaption{overflow-wrap:anywhere}"
    "td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f3f3f3}figure{margin:1.5em 0}"
)


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
    """Write ``report.html``, which contains all pictures, and the pictures as PNG files beside it.

    Args:
        directory: where to write; it is created, and files of the same names are replaced.
        title: heading of the report.
        result: the panoptic quality of the evaluation.
        names: names of the classes, by train_id.
        colors: colours of the classes, by train_id.
        curves: logged values of the training, from ``read_curves``; loss and panoptic quality are drawn.
        worst: images to show, in this order.

    Returns:
        The path of the HTML file.
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
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        shown.append((path, ""))
    for rank, image in enumerate(worst, start=1):
        path = directory / f"worst_{rank:02d}_{image.image_id}.png"
        with atomic_file(path) as temporary:
            Image.fromarray(image.picture).save(temporary, format="PNG")
        shown.append((path, f"{rank}. {_name(image.image_id)}: PQ {100 * image.pq:.1f}"))
    html = directory / "report.html"
    write_text(html, _page(title, result, names, shown))
    return html


def _page(title: str, result: PanopticQualityResult, names: Sequence[str], shown: Sequence[tuple[Path, str]]) -> str:
    """Return the HTML text; names and ids are escaped, because they come from files; captions are HTML."""
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
    lines = [f"<td>{_name(row[0])}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) for row in rows]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(path.stem)}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _name(name: str) -> str:
    """Return a name as HTML; one from right to left does not move what stands beside it."""
    return f"<bdi>{escape(name)}</bdi>"
