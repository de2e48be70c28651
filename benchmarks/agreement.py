"""Distances between the losses, gradients and predictions of two networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from efficientps.networks.network import PanopticNetwork
from efficientps.structures import VOID, Prediction, TrainingBatch

HalfPrecision: TypeAlias = Literal["bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_SMALL_TERM = 1e-2
"""Smallest denominator of the relative difference of a loss term: a term near 0 has no meaningful relative error."""

_NO_GRADIENT = 1e-9
"""A gradient with less than this share of the norm of all gradients is only rounding (a bias before a batch norm)."""

_FP16_SCALE = 256.0
"""Loss scale in fp16. With 65536, the first scale of a GradScaler, some gradients of a random network overflow."""


@dataclass(frozen=True)
class Outcome:
    """Loss terms and gradients of a network on one batch.

    Attributes:
        terms: loss terms by name.
        gradients: gradient of each parameter that has one, float64 on the CPU.
    """

    terms: Mapping[str, float]
    gradients: Mapping[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """Distances between two outcomes.

    Attributes:
        loss: largest relative difference of a loss term.
        total: relative difference of the sum of the terms.
        gradient: norm of the difference of all gradients, divided by the norm of all gradients.
        worst: largest such quotient of one parameter, among parameters with a gradient above rounding.
        worst_name: name of the parameter with the largest quotient.
        finite: 1 if all gradients are finite, else 0.
    """

    loss: float
    total: float
    gradient: float
    worst: float
    worst_name: str
    finite: int


def training_outcome(network: PanopticNetwork, batch: TrainingBatch, precision: HalfPrecision | None = None) -> Outcome:
    """Return loss terms and gradients of a batch, in the dtype of the network's weights or under autocast.

    The network's running statistics and gradients are restored.
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
    """Return the distances of an outcome from an expected one.

    Raises:
        ValueError: if the names of the loss terms or of the parameters with gradients differ.

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
    # NaN counts as the largest quotient.
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
    """Return the predictions of a batch; their maps are on the CPU."""
    network.eval()
    with torch.inference_mode(), _autocast(batch["images"].device, precision):
        return on_cpu(network.predict(batch))


def agreement(found: Sequence[Prediction], expected: Sequence[Prediction]) -> dict[str, float]:
    """Return the shares of pixels with equal segments and with equal classes, and the numbers of instances.

    Two segments are equal if they have the same class and the same pixels; ids and order do not matter.
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
    """Return the map with new ids, each computed from class and first pixel of a segment; 0 is void."""
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


def on_cpu(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return predictions with their panoptic and semantic maps on the CPU."""
    return [
        replace(p, panoptic=replace(p.panoptic, segment_ids=p.panoptic.segment_ids.cpu()), semantic=p.semantic.cpu())
        for p in predictions
    ]
