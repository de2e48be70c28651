"""A faster copy of a network that only predicts: norms folded, weights frozen and cast to the precision in use."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from efficientps.inference.bias_activation import kernel_runs, move_biases
from efficientps.inference.cuda_graphs import CUDAGraphs
from efficientps.inference.data_flow import DataFlow
from efficientps.inference.folding import FoldedNorms, candidates, fold
from efficientps.inference.fused_convolution import join_activations, runs_fused
from efficientps.layers.norm_act import set_norm_implementation
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import ImageBatch

_logger = logging.getLogger(__name__)

_SIDE = 64
"""Height and width of the noise image that reveals the data flow; the smallest size that every family accepts."""


def inference_copy(
    network: PanopticNetwork,
    *,
    dtype: torch.dtype | None = None,
    channels_last: bool = True,
    cuda_graphs: bool = True,
) -> PanopticNetwork:
    """Return a copy of a network that makes equal predictions in less time and cannot be trained.

    In the copy, batch norms are folded into the layer before them (convolution, transposed convolution, linear layer).
    Of an in-place ABN only the leaky ReLU remains. On a CPU, padding, convolution and leaky ReLU become one operation
    (``ConvLeakyReLU``); on CUDA with Triton, bias and leaky ReLU become one operation (``BiasLeakyReLU``).

    The pairs of layer and norm are observed, not guessed from names: the copy predicts one small image of noise. A norm
    is folded if, in that call,

    * the norm read every output of the layer, and every input of the norm was an output of the layer;
    * no other operation read this output or the layer's weights;
    * on other noise, the folded layer computes what layer and norm computed, to a relative error of the square root of
      the dtype's machine epsilon;
    * neither layer nor norm has a forward hook of the user.

    A norm or layer that the call did not reach is not changed. If the network cannot predict an image of 64x64 pixels,
    nothing is folded. A network whose data flow depends on the content of an image, with different layers before one
    norm, is not supported.

    Args:
        network: a network of any family; it is not changed. Make a new copy after further training.
        dtype: dtype of autocast during predictions. Weights that autocast would cast to it in each call are cast once,
            here; other weights, such as those of layer norms, keep their dtype. ``None`` casts nothing.
        channels_last: store weights channels last, which is faster for depthwise convolutions and on tensor cores.
        cuda_graphs: on a CUDA device, record and replay the network's parts with fixed shapes (``CUDAGraphs``).

    Returns:
        The copy, in evaluation mode and frozen, on the network's device. A log message says how many norms are folded.
    """
    with torch.inference_mode(False), torch.no_grad():
        copy = _frozen_copy(network, channels_last=channels_last)
        replaced = candidates(copy)[1]
        try:
            norms = fold_norms(copy, dtype=dtype)
            pairs = list(zip(norms.layers, norms.folded, strict=True))
            if runs_fused(_device(copy)):
                join_activations(copy, pairs)
            elif kernel_runs(_device(copy)):
                move_biases(copy, pairs)
            with _not_called(replaced[name] for name in norms.folded):
                _predict_noise(copy, dtype)
        except Exception as error:  # the code of a user's network may raise anything
            _logger.warning(
                "Predictions are slower than they could be: no norm of %s is folded, because the prediction of a noise "
                "image of %dx%d pixels fails (%s: %s).",
                type(network).__name__, _SIDE, _SIDE, type(error).__name__, error,
            )  # fmt: skip
            copy = _frozen_copy(network, channels_last=channels_last)
        else:
            number, all_norms = len(norms.folded), len(norms.folded) + len(norms.kept)
            stay = f"; not folded: {', '.join(norms.kept)}" if norms.kept else ""
            _logger.info("%d of %d norms are folded%s.", number, all_norms, stay)
    copy.compile_again()
    if cuda_graphs and _device(copy).type == "cuda":
        copy.replay = CUDAGraphs()
    return copy


class InferenceCopies:
    """Holds the inference copy of a network until the network's weights change.

    It is not an ``nn.Module``, so the copy is not part of any state dict. Deep copies and pickles of it are empty.
    """

    def __init__(self) -> None:
        self._copy: PanopticNetwork | None = None
        self._graphs_fail = False

    def of(self, network: PanopticNetwork, *, dtype: torch.dtype | None = None) -> PanopticNetwork:
        """Return the inference copy of a network, and make it if there is none."""
        if self._copy is None:
            self._copy = inference_copy(network, dtype=dtype, cuda_graphs=not self._graphs_fail)
        return self._copy

    def drop(self) -> None:
        """Drop the copy and its memory, because the network is about to change."""
        replay = self._copy.replay if self._copy is not None else None
        if isinstance(replay, CUDAGraphs):
            self._graphs_fail |= replay.failed
            replay.clear()
        self._copy = None

    def __deepcopy__(self, memo: dict[int, Any]) -> InferenceCopies:
        """Return an empty holder."""
        return InferenceCopies()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as an empty holder."""
        return (InferenceCopies, ())


def fold_norms(network: PanopticNetwork, *, dtype: torch.dtype | None = None) -> FoldedNorms:
    """Fold the norms of a network and cast its weights, both in place, by the rules of ``inference_copy``.

    Args:
        network: a network in evaluation mode; afterwards it can only predict.
        dtype: dtype of autocast during predictions; ``None`` casts nothing.

    Raises:
        Exception: any error of the network when it predicts an image of 64x64 pixels.
    """
    layers, norms = candidates(network)
    flow = DataFlow(layers=layers, norms=norms, parameters=dict(network.named_parameters()))
    with flow.watching():
        _predict_noise(network, dtype)
    result = fold(network, flow.pairs(), flow.inputs, dtype=dtype)
    if dtype is not None:
        cast = flow.only_cast_to(dtype)
        for layer in layers:
            if f"{layer}.weight" in cast:
                cast.add(f"{layer}.bias")  # folding may have added it
        for name, parameter in network.named_parameters():
            if name in cast:
                parameter.data = parameter.data.to(dtype)
    return result


def _frozen_copy(network: PanopticNetwork, *, channels_last: bool) -> PanopticNetwork:
    copy = deepcopy(network).eval().requires_grad_(False)
    for parameter in copy.parameters():  # a training may store weights in bfloat16; norms are folded in float32
        if parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.float()
    set_norm_implementation(copy, "eager")  # with fixed statistics, this is one operation and the activation
    if channels_last:
        copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copy


def _predict_noise(network: PanopticNetwork, dtype: torch.dtype | None) -> None:
    """Predict one small image in the given precision, without a search for cuDNN kernels."""
    device = _device(network)
    noise = torch.randint(256, (1, 3, _SIDE, _SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    size = [(_SIDE, _SIDE)]
    batch = ImageBatch(images=noise.to(device), image_sizes=size, original_sizes=size, image_ids=["noise"])
    autocast = torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False), autocast:
        network.predict(batch)


@contextmanager
def _not_called(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Raise an error if a replaced module is still called inside the context."""

    def refuse(module: nn.Module, args: Any) -> None:
        raise RuntimeError(f"a norm is still called after it was folded: {module}")

    handles = [module.register_forward_pre_hook(refuse) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _device(network: nn.Module) -> torch.device:
    return next((p.device for p in network.parameters()), torch.device("cpu"))
