"""``parity``: losses, gradients and predictions of small networks on a device, compared with the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from benchmarks.agreement import HalfPrecision, Outcome, agreement, difference, on_cpu, predicted, training_outcome
from benchmarks.batches import street_batch
from benchmarks.inference_copies import copies
from benchmarks.report import Bar, Report
from benchmarks.small_networks import KINDS
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import TrainingBatch

LOSS, GRADIENT, PIXELS = 1e-5, 1e-3, 0.999
"""Bars: largest relative difference of a loss term and of a gradient; smallest share of pixels with equal segments."""

ROUNDING = 8.0
"""In fp32 the bars of loss and gradient are at least this many times the difference between two memory layouts on the
CPU, because the batch norms of random networks amplify the rounding of a sum by thousands in the backward pass."""

HALF_LOSS = 0.05
"""Bar in half precision: relative difference of the sum of all loss terms from fp32 on the same device."""


@dataclass(frozen=True)
class Pair:
    """One network on the CPU and on the device, and a batch for each.

    Attributes:
        name: name of the network.
        network: the network on the CPU.
        moved: a copy of the network on the device.
        cpu: batch on the CPU.
        other: the batch on the device.
    """

    name: str
    network: PanopticNetwork
    moved: PanopticNetwork
    cpu: TrainingBatch
    other: TrainingBatch


def run(
    *,
    device: str,
    size: tuple[int, int] = (256, 512),
    batch_size: int = 2,
    kinds: Sequence[str] = (),
    half_precisions: Sequence[HalfPrecision] = get_args(HalfPrecision),
    file: Path | None = None,
    change: Callable[[PanopticNetwork], object] = lambda network: None,
) -> Report:
    """Compare a device with the CPU, one kind of network after the other; a kind that fails is reported as skipped.

    In fp64 the two sides agree to many digits, so a wrong kernel is visible; fp32 runs the kernels that training uses.
    TF32 is off. The losses use every proposal, so that nothing is sampled at random.

    Args:
        device: device that is compared with the CPU (fp64 and fp32) and with itself (half precision).
        size: (height, width) of the images, multiples of 64; fp64 uses half of it.
        batch_size: images of the batch.
        kinds: names from ``KINDS``; by default all, those with Triton on a CUDA device only.
        half_precisions: dtypes that are compared with fp32.
        file: file that ``Report`` writes.
        change: applied to the network on the device; tests use it to introduce an error.

    Raises:
        ValueError: if a kind is unknown.
    """
    kinds = kinds or [name for name in KINDS if device != "cpu" or not name.endswith("triton")]
    if unknown := set(kinds) - KINDS.keys():
        raise ValueError(f"There is no network '{min(unknown)}'; the networks are {', '.join(KINDS)}.")
    report = Report("parity", {"size": list(size), "batch_size": batch_size, "device": device}, file=file)
    half_size = (max(64, size[0] // 2), max(128, size[1] // 2))  # not below the smallest size of a scene
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for name in kinds:
            torch.manual_seed(0)
            network = KINDS[name]()
            moved = copy.deepcopy(network).to(device)
            change(moved)
            pair = _pair(name, network, moved, batch_size, size, device)
            with report.side(f"{name}, fp32"):
                found = _compare_training(pair, half_precisions, report)
                repeated = difference(training_outcome(moved, pair.other), found)
                report.add_figures("the same twice, fp32", name, vars(repeated))
            with report.side(f"{name}, prediction"):
                _compare_predictions(pair, half_precisions, device, report)
            if not name.endswith("triton"):  # the Triton kernels do not accept fp64
                with report.side(f"{name}, fp64"):
                    _compare_in_double(_pair(name, network, moved, batch_size, half_size, device), report)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    return report


def _pair(
    name: str,
    network: PanopticNetwork,
    moved: PanopticNetwork,
    batch_size: int,
    size: tuple[int, int],
    device: str,
) -> Pair:
    """Return the networks with a batch of scenes of a size for each."""
    cpu, other = (street_batch(batch_size, size, device=side) for side in ("cpu", device))
    return Pair(name, network, moved, cpu, other)


def _compare_training(pair: Pair, half_precisions: Sequence[HalfPrecision], report: Report) -> Outcome:
    """Compare losses and gradients, fp32 with the CPU and half precision with fp32; return the device's in fp32."""
    found = training_outcome(pair.moved, pair.other)
    reference = training_outcome(pair.network, pair.cpu)
    rounding = difference(training_outcome(_in_other_layout(pair.network), pair.cpu), reference)
    from_cpu = difference(found, reference)
    report.add_figures("fp32, cpu", pair.name, vars(from_cpu))
    report.add_figures("fp32, cpu in another memory layout", pair.name, vars(rounding))
    report.bars += [
        Bar(f"{pair.name}, fp32: relative difference of {what} from the CPU", value, "<=", max(bar, ROUNDING * least))
        for what, value, bar, least in (
            ("a loss term", from_cpu.loss, LOSS, rounding.loss),
            ("all gradients", from_cpu.gradient, GRADIENT, rounding.gradient),
        )
    ]
    for precision in half_precisions:
        in_half = difference(training_outcome(pair.moved, pair.other, precision), found)
        report.add_figures(f"{precision}, fp32", pair.name, vars(in_half))
        report.bars.append(
            Bar(f"{pair.name}, {precision}: relative difference of the loss from fp32", in_half.total, "<=", HALF_LOSS)
        )
    return found


def _compare_in_double(pair: Pair, report: Report) -> None:
    """Compare losses and gradients in fp64 with the CPU."""
    found, reference = (
        training_outcome(copy.deepcopy(side).double(), batch)
        for side, batch in ((pair.moved, pair.other), (pair.network, pair.cpu))
    )
    from_cpu = difference(found, reference)
    report.add_figures("fp64, cpu", pair.name, vars(from_cpu))
    report.bars += [
        Bar(f"{pair.name}, fp64: relative difference of a loss term from the CPU", from_cpu.loss, "<=", LOSS),
        Bar(f"{pair.name}, fp64: relative difference of a parameter's gradient", from_cpu.worst, "<=", GRADIENT),
    ]


def _compare_predictions(pair: Pair, half_precisions: Sequence[HalfPrecision], device: str, report: Report) -> None:
    """Compare maps: fp32 with the CPU, half precision with fp32, inference copies with the network."""
    in_fp32 = predicted(pair.moved, pair.other)
    maps = agreement(in_fp32, predicted(pair.network, pair.cpu))
    report.add_figures("prediction, cpu", pair.name, maps)
    report.bars += [
        Bar(f"{pair.name}: share of pixels with the CPU's {what}", maps[what], ">=", PIXELS)
        for what in ("segment", "class")
    ]
    for precision in half_precisions:
        in_half = agreement(predicted(pair.moved, pair.other, precision), in_fp32)
        report.add_figures(f"prediction in {precision}, fp32", pair.name, in_half)
    for side, build in copies(pair.moved, pair.other, "fp32", device).items():
        with report.side(f"{pair.name}, {side}"):
            maps = agreement(on_cpu(build()()), in_fp32)
            report.add_figures("prediction, the network's", f"{pair.name}, {side}", maps)
            claim = f"{pair.name}, {side}: share of pixels with the network's segment"
            report.bars.append(Bar(claim, maps["segment"], ">=", PIXELS))


def _in_other_layout(network: PanopticNetwork) -> PanopticNetwork:
    """Return a copy in the other memory layout (channels first or last), which adds up its sums in another order."""
    other = copy.deepcopy(network)
    weight = next(p for p in network.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[-1] > 1)
    is_last = weight.is_contiguous(memory_format=torch.channels_last)
    other.to(memory_format=torch.contiguous_format if is_last else torch.channels_last)  # type: ignore[call-overload]
    return other
