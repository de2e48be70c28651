"""``growth``: growth of a training step's time and memory with the batch, the pixels and the instances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import presets
from benchmarks.batches import Precision, street_batch
from benchmarks.memory import peak_bytes
from benchmarks.report import Bar, Report
from benchmarks.timing import alternate
from benchmarks.training_step import network_loss, network_with, training_step

LARGEST_EXPONENT = 1.1
"""Bar: 1 for linear growth, and 0.1 for the inaccuracy of the measurement."""


def run(
    *,
    size: tuple[int, int] = (256, 512),
    name: str = presets.REFERENCE,
    batches: Sequence[int] = (1, 2, 4),
    scales: Sequence[float] = (0.5, 1.0, 2.0),
    instances: Sequence[int] = (8, 32, 128),
    precision: Precision = "fp32",
    rounds: int = 3,
    device: str = "cpu",
    plot: Path | None = None,
) -> Report:
    """Vary one quantity at a time; the exponent of its growth is the slope of a line fitted to the logarithms.

    Args:
        size: (height, width) of the images, multiples of 32 at every scale.
        name: preset.
        batches: batch sizes.
        scales: factors of the images' height and width.
        instances: numbers of objects in each image.
        precision: precision of all steps.
        rounds: number of timed steps.
        device: device of the steps.
        plot: PNG file for a plot of the growth.
    """
    options = {"size": list(size), "preset": name, "precision": precision, "rounds": rounds, "device": device}
    report = Report("growth", options)
    network = network_with(name, "in-place").to(device)
    cases: dict[str, list[tuple[int, int, tuple[int, int], int | None]]] = {
        "batch": [(number, number, size, None) for number in batches],
        "pixels": [
            (height * width, 1, (height, width), None)
            for height, width in ((round(size[0] * scale), round(size[1] * scale)) for scale in scales)
        ],
        "instances": [(number, 1, size, number) for number in instances],
    }
    for quantity, values in cases.items():
        seconds, memory = [], []
        for value, batch_size, extent, objects in values:
            batch = street_batch(batch_size, extent, device=device, num_instances=objects)
            step = training_step(network, network_loss(network), batch, precision, device)
            timing = alternate({quantity: step}, rounds=rounds, device=device)
            network.zero_grad(set_to_none=True)  # else gradients of the previous step are in memory at the start
            peak = peak_bytes(step, device=device)
            seconds.append(timing[quantity].seconds)
            memory.append(peak)
            report.add(f"{value} {quantity}", timing, {quantity: {} if peak is None else {"peak_mb": peak / 1e6}})
        amounts = [value for value, *_ in values]
        report.bars.append(Bar(f"exponent of time over {quantity}", exponent(amounts, seconds), "<=", LARGEST_EXPONENT))
        known = [peak for peak in memory if peak]
        if len(known) == len(amounts):
            claim = f"exponent of memory over {quantity}"
            report.bars.append(Bar(claim, exponent(amounts, known), "<=", LARGEST_EXPONENT))
    if plot is not None:
        draw(report, plot)
    return report


def exponent(amounts: Sequence[float], costs: Sequence[float]) -> float:
    """Return the exponent p of the best fit ``cost = c * amount ** p``.

    >>> round(exponent([1, 2, 4], [3.0, 6.0, 12.0]), 3), round(exponent([1, 2, 4], [1.0, 4.0, 16.0]), 3)
    (1.0, 2.0)
    """
    return float(np.polyfit(np.log(amounts), np.log(costs), 1)[0])


def draw(report: Report, path: Path) -> None:
    """Plot time and memory over each quantity on logarithmic axes, with linear growth from the first point.

    Raises:
        ValueError: if Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("The plot needs Matplotlib; install it with: pip install -e '.[bench]'.") from None
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, 3)
    for column, quantity in enumerate(("batch", "pixels", "instances")):
        rows = [row for row in report.rows if row.side == quantity and row.timing is not None]
        amounts = [float(row.case.split()[0]) for row in rows]
        seconds = [row.timing.seconds for row in rows if row.timing is not None]
        peaks = [float(row.figures.get("peak_mb") or "nan") for row in rows]
        for line, (costs, label) in enumerate(((seconds, "seconds"), (peaks, "peak MB"))):
            panel = axes[line][column]
            panel.loglog(amounts, costs, "o-", label="measured")
            panel.loglog(amounts, [costs[0] * amount / amounts[0] for amount in amounts], ":", label="linear")
            panel.set_xticks([], minor=True)
            panel.set_xticks(amounts, [f"{amount:.0f}" for amount in amounts])
            panel.set_xlabel(quantity)
            panel.set_ylabel(label)
    axes[0][0].legend()
    figure.savefig(path, dpi=110)
