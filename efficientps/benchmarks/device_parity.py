"""``parity``: losses, gradients and predictions of small networks on two devices, and in half precision beside fp32."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from efficientps.benchmarks.batches import street_batch
from efficientps.benchmarks.inference_copies import copies
from efficientps.benchmarks.report import Bar, Report
from efficientps.data.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.layers.norm_act import Implementation
from efficientps.models import (
    Detector,
    DETRPanoptic,
    EfficientNetBackbone,
    EfficientPS,
    InstanceHead,
    MaskRCNNHead,
    PanopticNetwork,
    ResNetBackbone,
    SemanticHead,
    SOLOv2Head,
    TwoWayFPN,
)
from efficientps.structures import Prediction, TrainingBatch

HalfPrecision: TypeAlias = Literal["bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

LOSS, GRADIENT, PIXELS = 1e-5, 1e-3, 0.999
"""Bars in fp32: largest relative difference of a loss term, relative norm of the difference of all gradients, and share
of pixels whose segment and class are the same."""

ROUNDING = 4.0
"""The bars of losses and gradients are at least so many times the difference between two memory layouts on the CPU:
batch norms of random networks multiply the rounding of a sum by thousands on the way to the first layers."""

HALF_LOSS = 0.05
"""Bar in half precision: largest relative difference of a loss term from fp32 on the same device."""

_SMALL_TERM = 1e-2
"""A loss term below it is compared as if it were that large: a part of nearly nothing says nothing."""

_FP16_SCALE = 256.0
"""Of the loss in fp16: with 65536, the first scale of a GradScaler, some gradients of a random network overflow."""


@dataclass(frozen=True)
class Outcome:
    """What one network made of one batch.

    Attributes:
        terms: loss terms by name.
        gradient: of all parameters one after the other, float32 on the CPU.
    """

    terms: Mapping[str, float]
    gradient: Tensor


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
    """Compare a device with the CPU, one kind of network after the other; a kind that fails is named and left out.

    TF32 is off. Every proposal counts in the losses, so that nothing is drawn at random.

    Args:
        device: that is compared with the CPU in fp32, and with itself in half precision.
        size: (height, width) of the images, multiples of 32.
        batch_size: images of the batch.
        kinds: names from ``KINDS``; all of them by default, Triton's on a CUDA device only.
        half_precisions: of the comparison with fp32.
        file: see ``Report``.
        change: is done to the network on the device, for tests of this comparison.

    Raises:
        ValueError: if there is no such kind.
    """
    kinds = kinds or [name for name in KINDS if device != "cpu" or not name.endswith("triton")]
    if unknown := set(kinds) - KINDS.keys():
        raise ValueError(f"There is no network '{min(unknown)}'; the networks are {', '.join(KINDS)}.")
    report = Report("parity", {"size": list(size), "batch_size": batch_size, "device": device}, file=file)
    cpu, other = (street_batch(batch_size, size, device=name) for name in ("cpu", device))
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for name in kinds:
            with report.side(name):
                _compare(name, device, cpu, other, half_precisions, report, change)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    return report


def _compare(
    name: str,
    device: str,
    cpu: TrainingBatch,
    other: TrainingBatch,
    half_precisions: Sequence[HalfPrecision],
    report: Report,
    change: Callable[[PanopticNetwork], object],
) -> None:
    """Add what a kind of network gives on the device, beside the CPU and in half precision."""
    torch.manual_seed(0)
    network = KINDS[name]()
    moved = copy.deepcopy(network).to(device)
    change(moved)
    state = copy.deepcopy(moved.state_dict())

    def outcome(precision: HalfPrecision | None = None) -> Outcome:
        moved.load_state_dict(state)  # a training step moves the running statistics
        return training_outcome(moved, other, precision)

    found, again = outcome(), outcome()
    reference, rounded = _reference(network, cpu)
    figures, rounding = _difference(found, reference), _difference(rounded, reference)
    report.add_figures("fp32, cpu", name, figures | {"worst_gradient": worst_gradient(network, found, reference)})
    report.add_figures("fp32, cpu in another layout", name, rounding)
    report.bars += [
        Bar(f"{name}: relative difference of {what} from the CPU", figures[key], "<=", max(bar, ROUNDING * rounding[key]))
        for what, key, bar in (("a loss term", "loss", LOSS), ("the gradients", "gradient", GRADIENT))
    ]
    report.add_figures("fp32, the same twice", name, _difference(again, found))
    for precision in half_precisions:
        figures = _difference(outcome(precision), found)
        report.add_figures(f"{precision}, fp32", name, figures)
        report.bars.append(Bar(f"{name}: relative difference of a loss term, {precision}", figures["loss"], "<=", HALF_LOSS))
    moved.load_state_dict(state)
    expected = predicted(network, cpu)
    in_fp32 = predicted(moved, other)
    maps = agreement(in_fp32, expected)
    report.add_figures("prediction, cpu", name, maps)
    report.bars += [
        Bar(f"{name}: share of pixels with the CPU's {what}", maps[what], ">=", PIXELS)
        for what in ("segment", "class")
    ]
    for precision in half_precisions:
        report.add_figures(f"prediction in {precision}, fp32", name, agreement(predicted(moved, other, precision), in_fp32))
    for side, build in copies(moved, other, "fp32", device).items():
        with report.side(f"{name}, {side}"):
            maps = agreement(_on_cpu(build()()), in_fp32)
            report.add_figures("prediction, the network", f"{name}, {side}", maps)
            report.bars.append(Bar(f"{name}, {side}: share of pixels with the network's segment", maps["segment"], ">=", PIXELS))


def _reference(network: PanopticNetwork, batch: TrainingBatch) -> tuple[Outcome, Outcome]:
    """Return what the CPU gives in the network's memory layout, and in the other one, where sums have another order."""
    state = copy.deepcopy(network.state_dict())
    other = copy.deepcopy(network)
    weight = next(p for p in network.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[-1] > 1)
    is_last = weight.is_contiguous(memory_format=torch.channels_last)
    other.to(memory_format=torch.contiguous_format if is_last else torch.channels_last)  # type: ignore[call-overload]
    outcomes = training_outcome(network, batch), training_outcome(other, batch)
    network.load_state_dict(state)
    return outcomes


def training_outcome(
    network: PanopticNetwork, batch: TrainingBatch, precision: HalfPrecision | None = None
) -> Outcome:
    """Return loss terms and gradients of a batch, in fp32 or under autocast."""
    network.zero_grad(set_to_none=True)
    network.train()
    with _autocast(batch["images"].device, precision):
        terms = network.loss(batch)
    scale = _FP16_SCALE if precision == "fp16" else 1.0
    (scale * torch.stack(list(terms.values())).sum()).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return Outcome(
        {name: float(value.detach()) for name, value in terms.items()},
        torch.cat([gradient.float().flatten() for gradient in gradients]).cpu() / scale,
    )


def predicted(
    network: PanopticNetwork, batch: TrainingBatch, precision: HalfPrecision | None = None
) -> list[Prediction]:
    """Return the predictions of a batch, with their maps on the CPU."""
    network.eval()
    with torch.inference_mode(), _autocast(batch["images"].device, precision):
        return _on_cpu(network.predict(batch))


def agreement(found: Sequence[Prediction], expected: Sequence[Prediction]) -> dict[str, float]:
    """Return the shares of pixels with the same segment and with the same class, and the numbers of instances.

    Segments are the same where class and pixels are: their ids and their order say nothing.
    """
    segment, semantic = [], []
    for a, b in zip(found, expected, strict=True):
        first, second = (_canonical(p) for p in (a, b))
        segment.append(float((first == second).double().mean()))
        semantic.append(float((a.semantic == b.semantic).double().mean()))
    return {
        "segment": sum(segment) / len(segment),
        "class": sum(semantic) / len(semantic),
        "instances": sum(len(p.instances) for p in found),
        "instances_expected": sum(len(p.instances) for p in expected),
        "things_in_maps": sum(s.is_thing for p in found for s in p.panoptic.segments),
    }


def _canonical(prediction: Prediction) -> Tensor:
    """Return the map with ids that follow from class and place: the first pixel of a segment, and its class."""
    ids = prediction.panoptic.segment_ids
    flat = ids.flatten().long()
    first = torch.full((int(flat.max()) + 1,), flat.numel(), dtype=torch.int64)
    first = first.scatter_reduce(0, flat, torch.arange(flat.numel()), "amin")
    classes = torch.full_like(first, -1)
    for entry in prediction.panoptic.segments:
        classes[entry.id] = entry.train_id
    return (classes * (flat.numel() + 1) + first)[flat].view_as(ids)


def worst_gradient(network: nn.Module, found: Outcome, expected: Outcome) -> str:
    """Name the parameter whose gradient differs most, in norm."""
    worst, name_of_worst, start = -1.0, "none", 0
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            continue
        part = slice(start, start + parameter.numel())
        start += parameter.numel()
        distance = float((found.gradient[part] - expected.gradient[part]).norm())
        if not distance <= worst:
            worst, name_of_worst = distance, name
    return name_of_worst


def _difference(found: Outcome, expected: Outcome) -> dict[str, float]:
    """Return the largest relative difference of a term, the relative one of the gradients, and if all is finite."""
    if found.terms.keys() != expected.terms.keys():
        raise ValueError(f"The loss terms are {sorted(found.terms)} on one side and {sorted(expected.terms)} on the other.")
    loss = max(abs(found.terms[k] - v) / max(abs(v), _SMALL_TERM) for k, v in expected.terms.items())
    distance = (found.gradient - expected.gradient).norm() / expected.gradient.norm()
    return {
        "loss": loss,
        "gradient": float(distance),
        "finite": float(bool(found.gradient.isfinite().all())),
        "total": sum(found.terms.values()),
    }


def _autocast(device: torch.device, precision: HalfPrecision | None) -> Any:
    enabled = precision is not None
    return torch.autocast(device.type, dtype=_DTYPES[precision or "bf16"], enabled=enabled)


def _on_cpu(predictions: Sequence[Prediction]) -> list[Prediction]:
    return [
        replace(p, panoptic=replace(p.panoptic, segment_ids=p.panoptic.segment_ids.cpu()), semantic=p.semantic.cpu())
        for p in predictions
    ]


def _efficientps(head: Callable[[int, int], InstanceHead], norms: Implementation) -> PanopticNetwork:
    network = EfficientPS(
        CITYSCAPES_CATEGORIES.num_stuff,
        CITYSCAPES_CATEGORIES.num_things,
        backbone=EfficientNetBackbone(variant="b0", pretrained=False),
        neck=partial(TwoWayFPN, out_channels=64),
        semantic_head=partial(SemanticHead, channels=64),
        instance_head=head,
        min_stuff_area=100,
        norm_implementation=norms,
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(network.instance_head, MaskRCNNHead):
        network.instance_head.rpn.sampler.batch_size_per_image = 10**6
        predictor = network.instance_head.box_branch.predictor
        with torch.no_grad():  # scores of random weights are nearly equal; spread, some reach the map and their order holds
            predictor.cls_score.weight *= 100
    return network


_MASK_RCNN = partial(
    MaskRCNNHead,
    box_hidden=128,
    mask_channels=64,
    box_samples_per_image=10**6,
    rpn_proposals_train=50,
    rpn_proposals_test=50,
)

_SOLOV2 = partial(
    SOLOv2Head,
    preset="light",
    channels=64,
    detection_thresh=-1.0,
    update_thresh=-1.0,
    score_thresh=-1.0,
    nms_pre=100,
)


def _detr() -> PanopticNetwork:
    return DETRPanoptic(
        CITYSCAPES_CATEGORIES.num_stuff,
        CITYSCAPES_CATEGORIES.num_things,
        backbone=ResNetBackbone(pretrained=False),
        detector=partial(
            Detector, num_queries=60, channels=64, feed_forward=128, encoder_layers=1, decoder_layers=2, dropout=0.0
        ),
        score_thresh=0.0,
        detection_thresh=0.0,
    )


KINDS: dict[str, Callable[[], PanopticNetwork]] = {
    "Mask R-CNN, in_place": partial(_efficientps, _MASK_RCNN, "in_place"),
    "SOLOv2, in_place": partial(_efficientps, _SOLOV2, "in_place"),
    "DETR joint": _detr,
    "Mask R-CNN, eager": partial(_efficientps, _MASK_RCNN, "eager"),
    "Mask R-CNN, triton": partial(_efficientps, _MASK_RCNN, "triton"),
    "SOLOv2, triton": partial(_efficientps, _SOLOV2, "triton"),
}
"""Small networks with random weights, the most important first."""
