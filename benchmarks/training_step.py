"""``train``: time and peak memory of a training step, compared with networks of other projects on the same targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast, get_args

import torch
from torch import nn

from benchmarks import peers, presets
from benchmarks.batches import Precision, autocast, street_batch
from benchmarks.memory import peak_bytes
from benchmarks.report import Bar, Report
from benchmarks.timing import alternate
from efficientps.layers.norm_act import set_norm_implementation
from efficientps.layers.norm_implementation import Implementation
from efficientps.networks.efficientps.network import CompiledPart, EfficientPS, Part
from efficientps.structures import TrainingBatch

AGAINST = {"Mask2Former Swin-T": 0.5}
"""Bars: largest time of a training step, as a share of the peer's time."""

MEMORY_OPTIONS = ("in-place", "eager", "checkpointed")
"""In-place norms; PyTorch's own norms; in-place norms with activation checkpointing of all four parts."""

NORMS: dict[str, Implementation] = {
    "in-place": "in_place",
    "eager": "eager",
    "checkpointed": "in_place",
    "triton": "triton",
    "compiled": "compiled",
    "torch-compile": "eager",
    "channels-first": "in_place",
    "cudnn-benchmark": "in_place",
}
"""The norm implementation of each memory option; it replaces the preset's.

Besides ``MEMORY_OPTIONS`` there are: in-place norms by other kernels (``triton``, ``compiled``), which differ on a CUDA
device only; PyTorch's norms in parts compiled by ``torch.compile``; in-place norms in the channels-first memory format;
in-place norms with cuDNN's search for its fastest algorithms."""


def run(
    *,
    size: tuple[int, int] = (512, 1024),
    names: Sequence[str] = (presets.REFERENCE,),
    memory_options: Sequence[str] = MEMORY_OPTIONS,
    batch_size: int = 1,
    precision: Precision = "fp32",
    rounds: int = 3,
    device: str = "cpu",
    with_peers: bool = True,
    file: Path | None = None,
) -> Report:
    """Time training steps in turns: loss, gradients and a fused AdamW, on a batch that is already on the device.

    Args:
        size: (height, width) of the images, multiples of 32.
        names: presets; the first one, with the first memory option, is compared with the peers.
        memory_options: memory options of each preset, keys of ``NORMS``.
        batch_size: images in a step.
        precision: precision of all sides.
        rounds: number of timed steps.
        device: device of all sides.
        with_peers: measure the peers, too.
        file: file that ``Report`` writes.
    """
    options = {"size": list(size), "presets": list(names), "batch_size": batch_size, "precision": precision}
    report = Report("train", options | {"rounds": rounds, "device": device}, file=file)
    case = f"{size[0]}x{size[1]}, batch {batch_size}, {precision}"
    batch = street_batch(batch_size, size, device=device)
    sides: dict[str, Callable[[], object]] = {}
    figures: dict[str, dict[str, float]] = {}

    def add(name: str, module: nn.Module, loss: Callable[[TrainingBatch], torch.Tensor]) -> None:
        """Measure a side alone first, so that its result is written before the next side is built."""
        step = _with_option(training_step(module.to(device), loss, batch, precision, device), name)
        alone = alternate({name: step}, rounds=1, device=device)
        figures[name] = {"seconds_per_image": alone[name].seconds / batch_size}
        if (taken := peak_bytes(step, device=device)) is not None:
            figures[name]["peak_mb"] = taken / 1e6
        report.add(case, alone, figures)
        sides[name] = step

    for name in names:
        for option in memory_options:
            if option not in NORMS:
                raise ValueError(f"The memory option is '{option}'; it must be one of {', '.join(NORMS)}.")
            presets.path(name)
            with report.side(f"{name}, {option}"):
                network = network_with(name, option)
                add(f"{name}, {option}", network, network_loss(network))
    for name, build in peers.builders(size, training=True).items() if with_peers else ():
        with report.side(name):
            peer = build()
            add(name, peer, peer.loss)
    timings = alternate(sides, rounds=rounds, device=device, warm_up=False)
    for name in sides:
        figures[name]["seconds_per_image"] = timings[name].seconds / batch_size
    report.add(case, timings, figures)
    ours = f"{names[0]}, {memory_options[0]}"
    for peer_name, limit in AGAINST.items():
        if {ours, peer_name} <= timings.keys():
            ratio = timings[ours].seconds / timings[peer_name].seconds
            report.bars.append(Bar(f"time of a step as a share of {peer_name}", ratio, "<=", limit))
    return report


def _with_option(step: Callable[[], object], side: str) -> Callable[[], object]:
    """Return a step with cuDNN's benchmark on for the side ``cudnn-benchmark``, and off for all others."""
    chooses = side.endswith(", cudnn-benchmark")

    def call() -> object:
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = chooses
        try:
            return step()
        finally:
            torch.backends.cudnn.benchmark = before

    return call


def network_with(name: str, memory_option: str) -> EfficientPS:
    """Build the network of a preset with a memory option, channels last unless the option is ``channels-first``.

    Raises:
        ValueError: if the memory option is unknown.
        ModuleNotFoundError: if the memory option needs a package that is not installed.
    """
    if memory_option not in NORMS:
        raise ValueError(f"The memory option is '{memory_option}'; it must be one of {', '.join(NORMS)}.")
    network = cast(EfficientPS, presets.build(name))
    if memory_option != "channels-first":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_norm_implementation(network, NORMS[memory_option])
    if memory_option == "torch-compile":
        network.compile_parts(get_args(CompiledPart))
    if memory_option == "checkpointed":
        network.activation_checkpointing = frozenset(get_args(Part))
    return network


def network_loss(network: EfficientPS) -> Callable[[TrainingBatch], torch.Tensor]:
    """Return the function from a batch to the sum of the network's loss terms."""
    return lambda batch: torch.stack(list(network.loss(batch).values())).sum()


def training_step(
    module: nn.Module,
    loss: Callable[[TrainingBatch], torch.Tensor],
    batch: TrainingBatch,
    precision: Precision,
    device: str,
) -> Callable[[], object]:
    """Return a training step: forward pass, backward pass and optimizer step."""
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision, device):
            total = loss(batch)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step
