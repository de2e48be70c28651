"""Predictions of a network as they can be run: as it is, by its inference copy, and by that in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from efficientps.benchmarks.batches import Precision, autocast
from efficientps.models.network import PanopticNetwork
from efficientps.structures import ImageBatch, Prediction

Predict = Callable[[], list[Prediction]]


def plain(network: PanopticNetwork, batch: ImageBatch, precision: Precision, device: str) -> Predict:
    """Return the prediction of a batch by the network itself, under autocast where the precision is not fp32."""

    def predict() -> list[Prediction]:
        with torch.inference_mode(), autocast(precision, device):
            return network.eval().predict(batch)

    return predict


def copies(network: PanopticNetwork, batch: ImageBatch, precision: Precision, device: str) -> dict[str, Callable[[], Predict]]:
    """Return what builds each prediction by a copy of the network for inference; nothing where there is no such copy.

    A copy in a CUDA graph is offered on a CUDA device alone.
    """
    try:
        from efficientps.inference import inference_copy  # type: ignore[import-not-found]
    except ImportError:
        return {}
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def build(**options: Any) -> Predict:
        copy = inference_copy(network, dtype=dtype, **options)

        def predict() -> list[Prediction]:
            with torch.inference_mode():
                found: list[Prediction] = copy.predict(batch)
                return found

        return predict

    found = {"inference copy": build}
    if torch.device(device).type == "cuda":
        found["inference copy, CUDA graph"] = lambda: build(cuda_graph=True)
    return found
