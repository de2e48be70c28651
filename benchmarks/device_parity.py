"""``parity``: losses, gradients and predictions of small networks on two devices, and in half precision beside fp32."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from benchmarks.batches import street_batch
from benchmarks.inference_copies import copies
from benchmarks.report import Bar, Report
from efficientps.backbones import EfficientNetBackbone, ResNetBackbone
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.layers.norm_implementation import Implementation
from efficientps.networks.detr import Detector, DETRPanoptic
from efficientps.networks.efficientps import (
    EfficientPS,
    InstanceHead,
    MaskRCNNHead,
    SemanticHead,
    SOLOv2Head,
    TwoWayFPN,
)
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import VOID, Prediction, TrainingBatch

HalfPrecision: TypeAlias = Literal["bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

LOSS, GRADIENT, PIXELS = 1e-5, 1e-3, 0.999
"""Bars: largest relative difference of a loss term and of a gradient, share of pixels of the same segment and class."""

ROUNDING = 8.0
"""In fp32 the first two are at least so many times the difference between two memory layouts on the CPU: batch norms of
random networks multiply the rounding of a sum by thousands on the way back to the first layers. In fp64 they hold."""

HALF_LOSS = 0.05
"""Bar in half precision: relative difference of the sum of all terms from fp32 on the same device."""

_SMALL_TERM = 1e-2
"""A loss term below it is compared as if it were that large: a part of nearly nothing says nothing."""

_NO_GRADIENT = 1e-9
"""Share of the norm of all gradients below which one is zero but for rounding: that of a bias before a batch norm."""

_FP16_SCALE = 256.0
"""Of the loss in fp16: with 65536, the first scale of a GradScaler, some gradients of a random network overflow."""


@dataclass(frozen=True)
class Outcome:
    """What one network made of one batch.

    Attributes:
        terms: loss terms by name.
        gradients: of each parameter that has one, on the CPU.
    """

    terms: Mapping[str, float]
    gradients: Mapping[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """How far one outcome is from another.

    Attributes:
        loss: largest relative difference of a loss term.
        total: relative difference of the sum of the terms.
        gradient: norm of the difference of all gradients as a share of the norm of all.
        worst: largest such share of one parameter, of those whose gradient is not zero.
        worst_name: that parameter.
        finite: 1 where all gradients are finite, 0 otherwise.
    """

    loss: float
    total: float
    gradient: float
    worst: float
    worst_name: str
    finite: int


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

    In fp64 the two sides agree to many digits, so that whatever is wrong shows; fp32 shows the kernels of training.
    TF32 is off. Every proposal counts in the losses, so that nothing is drawn at random.

    Args:
        device: that is compared with the CPU in fp64 and fp32, and with itself in half precision.
        size: (height, width) of the images, multiples of 64; half of it in fp64.
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
    half_size = (max(64, size[0] // 2), max(128, size[1] // 2))  # a scene is at least as large
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for name in kinds:
            torch.manual_seed(0)
            network = KINDS[name]()
            moved = copy.deepcopy(network).to(device)
            change(moved)
            cpu, other = (street_batch(batch_size, size, device=side) for side in ("cpu", device))
            with report.side(f"{name}, fp32"):
                found = _compare_training(name, network, moved, cpu, other, half_precisions, report)
                report.add_figures(
                    "the same twice, fp32", name, vars(difference(training_outcome(moved, other), found))
                )
            with report.side(f"{name}, prediction"):
                _compare_predictions(name, network, moved, cpu, other, half_precisions, device, report)
            if not name.endswith("triton"):  # whose kernels leave fp64 to those of in_place
                with report.side(f"{name}, fp64"):
                    cpu, other = (street_batch(batch_size, half_size, device=side) for side in ("cpu", device))
                    _compare_in_double(name, network, moved, cpu, other, report)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    return report


def _compare_training(
    name: str,
    network: PanopticNetwork,
    moved: PanopticNetwork,
    cpu: TrainingBatch,
    other: TrainingBatch,
    half_precisions: Sequence[HalfPrecision],
    report: Report,
) -> Outcome:
    """Add losses and gradients in fp32 beside the CPU, and in half precision beside fp32; return those in fp32."""
    found = training_outcome(moved, other)
    reference = training_outcome(network, cpu)
    rounding = difference(training_outcome(_in_other_layout(network), cpu), reference)
    from_cpu = difference(found, reference)
    report.add_figures("fp32, cpu", name, vars(from_cpu))
    report.add_figures("fp32, cpu in another memory layout", name, vars(rounding))
    report.bars += [
        Bar(f"{name}, fp32: relative difference of {what} from the CPU", value, "<=", max(bar, ROUNDING * least))
        for what, value, bar, least in (
            ("a loss term", from_cpu.loss, LOSS, rounding.loss),
            ("all gradients", from_cpu.gradient, GRADIENT, rounding.gradient),
        )
    ]
    for precision in half_precisions:
        in_half = difference(training_outcome(moved, other, precision), found)
        report.add_figures(f"{precision}, fp32", name, vars(in_half))
        report.bars.append(
            Bar(f"{name}, {precision}: relative difference of the loss from fp32", in_half.total, "<=", HALF_LOSS)
        )
    return found


def _compare_in_double(
    name: str,
    network: PanopticNetwork,
    moved: PanopticNetwork,
    cpu: TrainingBatch,
    other: TrainingBatch,
    report: Report,
) -> None:
    """Add losses and gradients in fp64 beside the CPU."""
    found, reference = (
        training_outcome(copy.deepcopy(side).double(), batch) for side, batch in ((moved, other), (network, cpu))
    )
    from_cpu = difference(found, reference)
    report.add_figures("fp64, cpu", name, vars(from_cpu))
    report.bars += [
        Bar(f"{name}, fp64: relative difference of a loss term from the CPU", from_cpu.loss, "<=", LOSS),
        Bar(f"{name}, fp64: relative difference of a parameter's gradient", from_cpu.worst, "<=", GRADIENT),
    ]


def _compare_predictions(
    name: str,
    network: PanopticNetwork,
    moved: PanopticNetwork,
    cpu: TrainingBatch,
    other: TrainingBatch,
    half_precisions: Sequence[HalfPrecision],
    device: str,
    report: Report,
) -> None:
    """Add maps in fp32 beside the CPU, in half precision beside fp32, and those of copies beside the network's."""
    in_fp32 = predicted(moved, other)
    maps = agreement(in_fp32, predicted(network, cpu))
    report.add_figures("prediction, cpu", name, maps)
    report.bars += [
        Bar(f"{name}: share of pixels with the CPU's {what}", maps[what], ">=", PIXELS) for what in ("segment", "class")
    ]
    for precision in half_precisions:
        in_half = agreement(predicted(moved, other, precision), in_fp32)
        report.add_figures(f"prediction in {precision}, fp32", name, in_half)
    for side, build in copies(moved, other, "fp32", device).items():
        with report.side(f"{name}, {side}"):
            maps = agreement(_on_cpu(build()()), in_fp32)
            report.add_figures("prediction, the network's", f"{name}, {side}", maps)
            claim = f"{name}, {side}: share of pixels with the network's segment"
            report.bars.append(Bar(claim, maps["segment"], ">=", PIXELS))


def _in_other_layout(network: PanopticNetwork) -> PanopticNetwork:
    """Return a copy whose sums have another order: channels first in memory where they were last, and the reverse."""
    other = copy.deepcopy(network)
    weight = next(p for p in network.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[-1] > 1)
    is_last = weight.is_contiguous(memory_format=torch.channels_last)
    other.to(memory_format=torch.contiguous_format if is_last else torch.channels_last)  # type: ignore[call-overload]
    return other


def training_outcome(network: PanopticNetwork, batch: TrainingBatch, precision: HalfPrecision | None = None) -> Outcome:
    """Return loss terms and gradients of a batch, as the network's weights are or under autocast.

    The network's running statistics and gradients are as before.
    """
    state = copy.deepcopy(network.state_dict())
    network.train()
    with _autocast(batch["images"].device, precision):
        terms = network.loss(batch)
    scale = _FP16_SCALE if precision == "fp16" else 1.0
    (scale * torch.stack(list(terms.values())).sum()).backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.cpu().double() / scale for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    network.load_state_dict(state)
    return Outcome({name: float(value.detach()) for name, value in terms.items()}, gradients)


def difference(found: Outcome, expected: Outcome) -> Difference:
    """Return how far an outcome is from an expected one.

    Raises:
        ValueError: if they have other loss terms, or gradients of other parameters.

    >>> expected = Outcome({"loss": 1.0}, {"weight": torch.tensor([3.0, 4.0]), "bias": torch.tensor([1e-20])})
    >>> found = Outcome({"loss": 1.5}, {"weight": torch.tensor([3.0, 4.5]), "bias": torch.tensor([2e-20])})
    >>> difference(found, expected)
    Difference(loss=0.5, total=0.5, gradient=0.1, worst=0.1, worst_name='weight', finite=1)
    """
    for what, a, b in (("loss terms", found.terms, expected.terms), ("gradients", found.gradients, expected.gradients)):
        if one_sided := sorted(a.keys() ^ b.keys()):
            raise ValueError(f"One side alone has the {what} {', '.join(one_sided)}.")
    total = sum(expected.terms.values())
    norms = {name: float(gradient.norm()) for name, gradient in expected.gradients.items()}
    distances = {name: float((found.gradients[name] - g).norm()) for name, g in expected.gradients.items()}
    norm = math.hypot(*norms.values())
    shares = {name: distances[name] / norms[name] for name in norms if norms[name] > _NO_GRADIENT * norm}
    # A share that is not a number is the worst.
    worst_name = max(shares, key=lambda name: math.inf if math.isnan(shares[name]) else shares[name])
    return Difference(
        loss=max(abs(found.terms[name] - v) / max(abs(v), _SMALL_TERM) for name, v in expected.terms.items()),
        total=abs(sum(found.terms.values()) - total) / abs(total),
        gradient=math.hypot(*distances.values()) / norm,
        worst=shares[worst_name],
        worst_name=worst_name,
        finite=int(all(bool(gradient.isfinite().all()) for gradient in found.gradients.values())),
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
    """Return the map with ids that follow from class and first pixel of a segment; 0 is void."""
    ids = prediction.panoptic.segment_ids
    flat = ids.flatten().long()
    first = torch.full((int(flat.max()) + 1,), flat.numel(), dtype=torch.int64)
    first = first.scatter_reduce(0, flat, torch.arange(flat.numel()), "amin")
    classes = torch.full_like(first, -1)
    for entry in prediction.panoptic.segments:
        classes[entry.id] = entry.train_id
    canonical = 1 + classes * (flat.numel() + 1) + first
    canonical[VOID] = 0
    return canonical[flat].view_as(ids)


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
    network.instance_head.score_thresh = -1.0
    _spread(network)
    return network


@torch.no_grad()
def _spread(network: EfficientPS) -> None:
    """Scale the last layers so that scores, classes and masks differ from place to place, as trained ones do.

    Those of random weights are nearly equal: maps would show one class and no instance, in whatever way they are made.
    """
    image = torch.randint(256, (1, 3, 128, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    head = network.eval().instance_head
    pyramid = network.pyramid(image, [(128, 256)])
    logits = network.semantic_head(pyramid)
    mean = logits.mean(dim=(0, 2, 3))
    classifier = network.semantic_head.classifier
    factor = 3 / (logits - mean[:, None, None]).std()
    classifier.weight *= factor
    assert classifier.bias is not None
    classifier.bias.copy_(factor * (classifier.bias - mean))
    if isinstance(head, MaskRCNNHead):
        head.box_branch.predictor.cls_score.weight *= 20
    masks = head.predict(pyramid, [(128, 256)])[0].mask_logits
    head.mask_logit_scale = float(6 / masks.std())


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
