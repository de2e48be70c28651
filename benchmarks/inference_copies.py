"""The ways to run predictions: by the network itself, by its inference copy, and by the copy with CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from benchmarks.batches import Precision, autocast
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import ImageBatch, Prediction

Predict = Callable[[], list[Prediction]]


def plain(network: PanopticNetwork, batch: ImageBatch, precision: Precision, device: str) -> Predict:
    """Return a call that predicts a batch with the network itself, under autocast unless the precision is fp32."""

    def predict() -> list[Prediction]:
        with torch.inference_mode(), autocast(precision, device):
            return network.eval().predict(batch)

    return predict


def copies(
    network: PanopticNetwork, batch: ImageBatch, precision: Precision, device: str
) -> dict[str, Callable[[], Predict]]:
    """Return a builder for each kind of inference copy; none if the package has no inference copies.

    The copy with CUDA graphs is included on a CUDA device only.
    """
    try:
        make = import_module("efficientps.inference.inference_copy").inference_copy
    except ModuleNotFoundError:
        return {}
    dtype = torch.bfloat16 if precision == "bf16" else None

    def build(*, cuda_graphs: bool) -> Predict:
        return plain(make(network, dtype=dtype, cuda_graphs=cuda_graphs), batch, precision, device)

    found = {"inference copy": lambda: build(cuda_graphs=False)}
    if torch.device(device).type == "cuda":
        found["inference copy, CUDA graphs"] = lambda: build(cuda_graphs=True)
    return found
