"""``model``: size of the networks and time from an image to its panoptic map, compared with networks of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers, presets
from benchmarks.batches import Precision, autocast, street_batch
from benchmarks.report import Bar, Report
from benchmarks.saved_activations import saved_activation_bytes
from benchmarks.scenes import street_instances
from benchmarks.timing import alternate
from benchmarks.training_step import network_loss
from efficientps.inference.inference_copy import inference_copy
from efficientps.networks.efficientps.network import EfficientPS
from efficientps.structures import InstancePredictions
from efficientps.training.checkpoints.init_from import network_state
from efficientps.training.checkpoints.read import read_checkpoint
from efficientps.training.checkpoints.states import compare_states

COPY = "inference copy"
"""Name of the side that predicts with a preset's inference copy, as validation and prediction do."""

SHARE_OF_THE_COPY = 0.9
"""Bar: largest time of the inference copy, as a share of the network's time."""

AGAINST = {"Mask2Former Swin-T": 0.35, "Mask R-CNN R50-FPN": 0.8}
"""Bars: largest time of a prediction, as a share of the peer's time."""

REALISTIC_INSTANCES = 30


def run(
    *,
    size: tuple[int, int] = (512, 1024),
    names: Sequence[str] = (presets.REFERENCE,),
    batch_size: int = 1,
    precision: Precision = "fp32",
    rounds: int = 3,
    device: str = "cpu",
    with_peers: bool = True,
    without: Sequence[str] = (),
    peer_activations: bool = True,
    checkpoints: Sequence[str | Path] = (),
    file: Path | None = None,
) -> Report:
    """Time predictions in turns, and count parameters, multiply-adds and the activations that training would save.

    Args:
        size: (height, width) of the images, multiples of 32.
        names: presets; each is measured with its inference copy. The first preset's copy is compared with the peers.
        batch_size: images in a call.
        precision: precision of all sides.
        rounds: number of timed calls.
        device: device of all sides.
        with_peers: measure the peers, too.
        without: names of peers to leave out.
        peer_activations: count the activations that the peers' training would save; needs memory for a training step.
        checkpoints: files with trained weights, one per preset, instead of random weights.
        file: file that ``Report`` writes.

    Raises:
        FileNotFoundError: a preset or a checkpoint does not exist.
        ValueError: the number of checkpoints differs from that of the presets, a checkpoint belongs to another network,
            or a peer is unknown.
    """
    if checkpoints and len(checkpoints) != len(names):
        raise ValueError(f"There are {len(checkpoints)} checkpoints for {len(names)} presets; give one for each.")
    builders = peers.builders(size, training=False) if with_peers else {}
    if unknown := set(without) - builders.keys():
        known = ", ".join(builders) or "none"
        raise ValueError(f"There is no peer '{min(unknown)}' to leave out; the peers are {known}.")
    options = {"size": list(size), "presets": list(names), "batch_size": batch_size, "precision": precision}
    options |= {"checkpoints": [str(path) for path in checkpoints]}
    report = Report("model", options | {"rounds": rounds, "device": device}, file=file)
    case = f"{size[0]}x{size[1]}, batch {batch_size}, {precision}"
    batch = street_batch(batch_size, size, device=device)
    sides: dict[str, Callable[[], Any]] = {}
    figures: dict[str, dict[str, float]] = {}

    def add(name: str, module: nn.Module, predict: Callable[[], Any], loss: Callable[[], torch.Tensor] | None) -> None:
        call = _inference(predict, precision, device)
        macs = _multiply_adds(call, module)
        figures[name] = {"parameters_m": _parameters(module) / 1e6, "gmacs": macs.pop("Global", 0.0) / 1e9}
        figures[name] |= {f"gmacs_{part}": count / 1e9 for part, count in macs.items()}
        if loss is not None:
            figures[name]["saved_activations_mb"] = _saved_bytes(module, loss, precision, device) / 1e6
        report.add(case, alternate({name: call}, rounds=1, device=device, warm_up=False), figures)
        sides[name] = call

    for name, weights in zip_longest(names, checkpoints):
        network = cast(EfficientPS, presets.build(name).to(device))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with report.side(name):
            add(name, network, lambda n=network: n.predict(batch), lambda n=network: network_loss(n)(batch))  # type: ignore[misc]
        if name not in sides:
            continue
        if weights is not None:  # only now, because counting saved activations has changed the running statistics
            load_weights(network, name, weights)
        copy = cast(EfficientPS, inference_copy(network, dtype=torch.bfloat16 if precision == "bf16" else None))
        for side, module in ((name, network), (f"{name}, {COPY}", copy)):
            sides[side] = _inference(lambda n=module: n.predict(batch), precision, device)  # type: ignore[misc]
            figures.setdefault(side, {})["instances_fused"] = _fused(sides[side]())
            if name == names[0]:
                crowded = f"{side}, {REALISTIC_INSTANCES} instances"
                sides[crowded] = _inference(_with_instances(module, batch, size, device), precision, device)
                figures[crowded] = {"instances_fused": _fused(sides[crowded]())}
    images = batch["images"]
    for name, build in builders.items():
        if name in without:
            report.skipped.append(f"{name}: left out on request.")
            continue
        with report.side(name):
            peer = build().to(device)
            trained = name in AGAINST and peer_activations
            loss = (lambda p=peer: p.loss(batch)) if trained else None  # type: ignore[misc]
            add(name, peer, lambda p=peer: p.predict(images), loss)  # type: ignore[misc]
    timings = alternate(sides, rounds=rounds, device=device)
    report.add(case, timings, figures)
    share = timings[f"{names[0]}, {COPY}"].seconds / timings[names[0]].seconds
    report.bars.append(Bar("time of the inference copy as a share of the network's", share, "<=", SHARE_OF_THE_COPY))
    for peer_name, limit in AGAINST.items():
        if peer_name in timings:
            ours = timings[f"{names[0]}, {COPY}, {REALISTIC_INSTANCES} instances"].seconds
            ratio = ours / timings[peer_name].seconds
            report.bars.append(Bar(f"time as a share of {peer_name}", ratio, "<=", limit))
    return report


def load_weights(network: nn.Module, name: str, path: str | Path) -> None:
    """Load a checkpoint into the network of a preset.

    Raises:
        ValueError: names or shapes of the tensors differ.
    """
    state = network_state(read_checkpoint(path))
    if keys := [key for keys in compare_states(network.state_dict(), state) for key in keys]:
        raise ValueError(
            f"The checkpoint {path} is of another network than the preset {name}: {len(keys)} tensors differ, "
            f"'{keys[0]}' for one; give the checkpoints in the order of the presets, and as these are now."
        )
    network.load_state_dict(state)


def _inference(predict: Callable[[], Any], precision: Precision, device: str) -> Callable[[], Any]:
    def call() -> Any:
        with torch.inference_mode(), autocast(precision, device):
            return predict()

    return call


def _with_instances(network: EfficientPS, batch: Any, size: tuple[int, int], device: str) -> Callable[[], Any]:
    """Return a prediction in which the instance head runs as usual and the fusion gets instances of a street scene."""
    found = street_instances(REALISTIC_INSTANCES, size, device=device)
    head = network.instance_head
    original = head.decode

    def decode(*inputs: Any) -> list[InstancePredictions]:
        return [found for _ in original(*inputs)]

    def call() -> Any:
        head.decode = decode  # type: ignore[method-assign, assignment]
        try:
            return network.predict(batch)
        finally:
            del head.decode

    return call


def _fused(predictions: Any) -> float:
    """Return the mean number of instances in the panoptic maps."""
    counts = [sum(segment.is_thing for segment in prediction.panoptic.segments) for prediction in predictions]
    return float(sum(counts)) / len(counts)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _multiply_adds(predict: Callable[[], Any], module: nn.Module) -> dict[str, float]:
    """Return the multiply-adds of a prediction, total ("Global") and per part; only matmuls and convolutions count."""
    module.eval()
    with FlopCounterMode(display=False) as counter:
        predict()
    counts = {name: sum(operations.values()) / 2 for name, operations in counter.get_flop_counts().items()}
    depth = 0 if sum("." not in name for name in counts) > 2 else 1  # a single name besides "Global" is the network
    parts = {name.rpartition(".")[2]: count for name, count in counts.items() if name.count(".") == depth and count}
    return parts | {"Global": counts["Global"]}


def _saved_bytes(module: nn.Module, loss: Callable[[], torch.Tensor], precision: Precision, device: str) -> int:
    """Return the bytes of activations that a training step saves in its forward pass."""
    module.train()
    with autocast(precision, device):
        taken, total = saved_activation_bytes(loss)
    del total
    module.eval()
    return taken
