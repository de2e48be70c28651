"""``launches``: launches and waits of predictions, training steps and evaluations on CUDA, counted without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks import presets
from benchmarks.batches import autocast, street_batch
from benchmarks.counting_device import counting_device, on_device
from benchmarks.device_count import DeviceCount
from benchmarks.forced_instances import draw_street_masks, force_instances
from benchmarks.report import Report
from benchmarks.training_step import network_loss, network_with, training_step
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.metrics.evaluator import Evaluator
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import PanopticSegmentation, Prediction, TrainingBatch

T = TypeVar("T")

NAMES = ("cityscapes_paper", "cityscapes_solov2_1024x2048", "detr_panoptic_joint")

PARTS: Mapping[str, str | tuple[str, ...]] = {
    "backward": "benchmarks/python_backward",
    "backbone": "backbones",
    "neck": "networks/efficientps/two_way_fpn",
    "semantic head": "networks/efficientps/semantic_head",
    "instance head": ("networks/efficientps/mask_rcnn", "networks/efficientps/solov2"),
    "fusion": (
        "networks/efficientps/panoptic_fusion",
        "networks/efficientps/packed_fusion",
        "networks/queries/post_processing",
    ),
    "detector": ("networks/detr/detector", "networks/detr/encoder_layer"),
    "mask head": ("networks/detr/mask_head", "networks/detr/query_convolutions"),
}
"""Parts of a network, by the prefixes of the paths of their files."""


def run(
    *,
    size: tuple[int, int] = (1024, 2048),
    names: Sequence[str] = NAMES,
    instances: int = 30,
    step_size: tuple[int, int] = (512, 1024),
    file: Path | None = None,
) -> Report:
    """Count the second call with one image in bf16; the first call creates what is cached for an image size.

    Args:
        size: (height, width) of the predicted image, multiples of 32.
        names: presets.
        instances: number of instances that each network predicts; for DETR, the number of queries.
        step_size: (height, width) of the image of a training step.
        file: file that ``Report`` writes.
    """
    options = {"size": list(size), "presets": list(names), "instances": instances, "step_size": list(step_size)}
    report = Report("launches", options, file=file)
    for name in names:
        with report.side(f"{name}, prediction"):
            counts = prediction_counts(name, size, instances)
            _add(report, f"prediction {size[0]}x{size[1]}, {instances} instances", name, counts.prediction)
            _add(report, "update of the evaluation", name, counts.evaluation)
        with report.side(f"{name}, training step"):
            _add(report, f"training step {step_size[0]}x{step_size[1]}", name, step_count(name, step_size))
    return report


@dataclass(frozen=True)
class PredictionCounts:
    """Counts for one image.

    Attributes:
        prediction: counts of ``predict``, in the second call with this image size.
        evaluation: counts of ``Evaluator.update`` with the prediction and a true map in CPU memory.
        instances: number of predicted instances.
    """

    prediction: DeviceCount
    evaluation: DeviceCount
    instances: int


def prediction_counts(
    name: str, size: tuple[int, int], instances: int, file_size: tuple[int, int] | None = None
) -> PredictionCounts:
    """Count one image in bf16 with the inference copy of a preset's network with random weights.

    Args:
        name: name of the preset.
        size: (height, width) of the image, multiples of 32.
        instances: number of instances that the network predicts; for DETR, the number of queries.
        file_size: (height, width) of the image file, if the network sees it resized to ``size``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = presets.build(name, num_queries=instances)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    force_instances(network, instances)
    network = on_device(_copied(network))
    draw_street_masks(network, size, on_device)
    scene = street_batch(1, size)
    scene["original_sizes"] = [file_size or size]
    batch: TrainingBatch = on_device(scene)

    def predict() -> list[Prediction]:
        with torch.no_grad(), autocast("bf16", "cuda"):
            return network.predict(batch)

    count, (prediction,) = _second(predict)
    evaluator = on_device(Evaluator(CITYSCAPES_CATEGORIES))
    with counting_device() as of_evaluation:
        evaluator.update(prediction, PanopticSegmentation(scene["segment_ids"][0], scene["segments"][0]))
    found = prediction.boxes.scores if prediction.boxes is not None else prediction.instances.scores
    return PredictionCounts(count, of_evaluation, len(found))


def step_count(name: str, size: tuple[int, int]) -> DeviceCount:
    """Count the second training step of a preset's network with one image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = on_device(network_with(name, "in-place"))
        batch: TrainingBatch = on_device(street_batch(1, size))
        with counting_device():
            step = training_step(network, network_loss(network), batch, "bf16", "cuda")
        count, _ = _second(step)
    return count


def _second(call: Callable[[], T]) -> tuple[DeviceCount, T]:
    with counting_device():
        call()
    with counting_device() as count:
        found = call()
    return count, found


def _copied(network: PanopticNetwork) -> PanopticNetwork:
    """Return the network's inference copy, or the network itself if the package has no inference copies."""
    try:
        make = import_module("efficientps.inference.inference_copy").inference_copy
    except ModuleNotFoundError:
        return network
    copy: PanopticNetwork = make(network, dtype=torch.bfloat16, cuda_graphs=False)
    return copy


def _add(report: Report, case: str, name: str, count: DeviceCount) -> None:
    """Add a row for the whole network and one for each part with events; report mixes of devices as skipped."""
    report.add_figures(case, name, _figures(count))
    for part, of_part in count.by_part(PARTS).items():
        if of_part.events:
            report.add_figures(case, f"{name}, {part}", _figures(of_part))
    for sentence in count.device_mixes:
        report.skip(f"{name}, {case}: tensors of both devices meet in {sentence}.")


def _figures(count: DeviceCount) -> dict[str, int]:
    return {"launches": count.launches, "waits": count.waits, "blocking_copies": count.blocking_copies}
