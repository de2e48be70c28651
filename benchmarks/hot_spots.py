"""``profile``: the operations in which a prediction and a training step spend most of their time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import presets
from benchmarks.batches import Precision, autocast, street_batch
from benchmarks.report import Report
from benchmarks.training_step import network_loss, network_with, training_step


def run(
    *,
    size: tuple[int, int] = (512, 1024),
    name: str = presets.REFERENCE,
    memory_option: str = "in-place",
    batch_size: int = 1,
    precision: Precision = "fp32",
    rounds: int = 1,
    device: str = "cpu",
    top: int = 10,
) -> Report:
    """Profile a prediction and a training step, each after a warm-up call.

    The time of an operation excludes the operations that it calls.

    Args:
        size: (height, width) of the images, multiples of 32.
        name: preset.
        memory_option: key of ``training_step.NORMS``.
        batch_size: images in a call.
        precision: precision of prediction and training step.
        rounds: number of profiled calls.
        device: device of the calls.
        top: number of operations in the report.
    """
    options = {"size": list(size), "preset": name, "memory": memory_option, "batch_size": batch_size}
    report = Report("profile", options | {"precision": precision, "rounds": rounds, "device": device})
    batch = street_batch(batch_size, size, device=device)
    network = network_with(name, memory_option).to(device)
    step = training_step(network, network_loss(network), batch, precision, device)

    def prediction() -> Any:
        with torch.inference_mode(), autocast(precision, device):
            return network.eval().predict(batch)

    def training() -> None:
        network.train()
        step()

    for case, call in (("prediction", prediction), ("training step", training)):
        for operation, figures in hottest(call, rounds=rounds, device=device, top=top).items():
            report.add_figures(case, operation, figures)
    return report


def hottest(call: Callable[[], object], *, rounds: int, device: str, top: int) -> dict[str, dict[str, float | int]]:
    """Return share of the time, milliseconds and number of calls of the operations that take the most time.

    On a CUDA device the times are those of the device, otherwise those of the CPU.
    """
    call()
    on_cuda = torch.device(device).type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_cuda) as profiler:
        for _ in range(rounds):
            call()
        if on_cuda:
            torch.cuda.synchronize()
    times = {
        event.key: (event.self_device_time_total if on_cuda else event.self_cpu_time_total, event.count)
        for event in profiler.key_averages()
    }
    total = sum(time for time, _ in times.values())
    longest = sorted(times, key=lambda key: -times[key][0])[:top]
    return {
        key: {
            "share": times[key][0] / total,
            "ms": times[key][0] / 1e3 / rounds,
            "calls": round(times[key][1] / rounds),
        }
        for key in longest
    }
