"""``memory``: peak memory of a training step for several batch sizes, and whether a batch fits within a limit."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import presets
from benchmarks.batches import Precision, street_batch
from benchmarks.largest_batch import step_fits
from benchmarks.memory import peak_bytes
from benchmarks.report import Report
from benchmarks.training_step import network_loss, network_with, training_step


def run(
    *,
    size: tuple[int, int] = (1024, 2048),
    name: str = presets.REFERENCE,
    batches: Sequence[int] = (1, 2, 3),
    memory_options: Sequence[str] = ("in-place", "checkpointed"),
    limit_gb: float = 11,
    precision: Precision = "bf16",
    device: str = "cpu",
    file: Path | None = None,
) -> Report:
    """Measure the second step with each batch size, which starts with the optimizer's state in memory.

    Args:
        size: (height, width) of the images, multiples of 32.
        name: preset.
        batches: batch sizes.
        memory_options: keys of ``training_step.NORMS``; the last one is tried within the limit, with the last batch.
        limit_gb: memory limit in units of 10^9 bytes, on a CUDA device with at least this memory.
        precision: precision of the steps.
        device: device of the steps.
        file: file that ``Report`` writes.
    """
    options = {"size": list(size), "preset": name, "precision": precision, "device": device}
    report = Report("memory", options, file=file)
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        there = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_gb * 1e9 / there))
        with report.side(f"{limit_gb:g} GB"):
            fits = step_fits(name, memory_options[-1], batches[-1], size, precision, device)
            report.add_figures(
                f"batch {batches[-1]} within {limit_gb:g} GB", f"{name}, {memory_options[-1]}", {"fits": int(fits)}
            )
        torch.cuda.set_per_process_memory_fraction(1.0)
    else:
        report.skip(f"{limit_gb:g} GB: a CPU has no memory limit that raises an error.")
    for option in memory_options:
        for number in batches:
            with report.side(f"{name}, {option}, batch {number}"):
                gc.collect()
                if on_cuda:
                    torch.cuda.empty_cache()
                network = network_with(name, option).to(device)
                batch = street_batch(number, size, device=device)
                step = training_step(network, network_loss(network), batch, precision, device)
                step()
                figures = {}
                if (taken := peak_bytes(step, device=device)) is not None:
                    figures["step_peak_mb"] = taken / 1e6
                if on_cuda:
                    figures["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
                    figures["reserved_mb"] = torch.cuda.max_memory_reserved() / 1e6
                report.add_figures(f"batch {number}", f"{name}, {option}", figures)
                del network, step
    return report
