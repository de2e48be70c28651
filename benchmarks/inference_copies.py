"""Predictions of a network as they can be run: as it is, by its inference copy, and by that with CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from benchmarks.batches import Precision, autocast
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import ImageBatch, Prediction

Predict = Callable[[], list[Prediction]]


def plain(network: PanopticNetwork, batch: ImageBatch, precision: Precision, device: str) -> Predict:
    """Return the prediction of a batch by the network itself, under autocast where the precision is not fp32."""

    def predict() -> list[Prediction]:
        with torch.inference_mode(), autocast(precision, device):
            return network.eval().predict(batch)

    return predict


def copies(
    network: PanopticNetwork, batch: ImageBatch, precision: Precision, device: str
) -> dict[str, Callable[[], Predict]]:
    """Return what builds each prediction by a copy of the network for inference; nothing where there is no such copy.

    One with CUDA graphs is offered on a CUDA device alone.
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
