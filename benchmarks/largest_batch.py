"""``batch``: the largest batch of a training step within a limit of memory of a CUDA device."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch

from benchmarks import presets
from benchmarks.batches import Precision, street_batch
from benchmarks.report import Report
from benchmarks.training_step import network_loss, network_with, training_step


def run(
    *,
    size: tuple[int, int] = (1024, 2048),
    name: str = presets.REFERENCE,
    memory_options: Sequence[str] = ("in-place", "checkpointed"),
    limits_gb: Sequence[float] = (11, 24, 80),
    precision: Precision = "bf16",
    device: str = "cuda",
) -> Report:
    """Search the largest batch with this process limited to each amount of memory; 0 means that one image does not fit.

    Args:
        size: (height, width) of the images, multiples of 32.
        name: preset.
        memory_options: keys of ``training_step.NORMS``.
        limits_gb: memory limits in units of 10^9 bytes; limits above the device's memory are skipped.
        precision: precision of the steps.
        device: a CUDA device; a CPU has no memory limit that raises an error.

    Raises:
        ValueError: if the device is not a CUDA device.
    """
    if torch.device(device).type != "cuda":
        raise ValueError("The largest batch can be searched on a CUDA device only; add --device cuda.")
    report = Report("batch", {"size": list(size), "preset": name, "precision": precision, "device": device})
    there = torch.cuda.get_device_properties(device).total_memory
    for limit in limits_gb:
        if limit * 1e9 > there:
            report.skipped.append(f"{limit:g} GB: the device has {there / 1e9:.1f} GB.")
            continue
        torch.cuda.set_per_process_memory_fraction(limit * 1e9 / there)
        for option in memory_options:

            def fits(number: int, option: str = option) -> bool:
                return step_fits(name, option, number, size, precision, device)

            report.add_figures(f"{limit:g} GB", f"{name}, {option}", {"images": largest(fits)})
    torch.cuda.set_per_process_memory_fraction(1.0)
    return report


def largest(fits: Callable[[int], bool], *, most: int = 512) -> int:
    """Return the largest number up to ``most`` that fits, or 0; every number below a fitting one must fit, too.

    >>> largest(lambda number: number <= 11), largest(lambda number: False), largest(lambda number: True, most=7)
    (11, 0, 7)
    """
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def step_fits(
    name: str, memory_option: str, batch_size: int, size: tuple[int, int], precision: Precision, device: str
) -> bool:
    """Return whether two steps fit; the second step starts with the optimizer's state in memory."""
    gc.collect()
    torch.cuda.empty_cache()
    try:
        network = network_with(name, memory_option).to(device)
        batch = street_batch(batch_size, size, device=device)
        step = training_step(network, network_loss(network), batch, precision, device)
        for _ in range(2):
            step()
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        return False
    return True
