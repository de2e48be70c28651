"""A copy of a network for predictions alone: norms folded, weights frozen and in the precision of their use."""

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
"""Pixels of each side of the image that the data flow is watched on: the smallest that every family takes."""


def inference_copy(
    network: PanopticNetwork,
    *,
    dtype: torch.dtype | None = None,
    channels_last: bool = True,
    cuda_graphs: bool = True,
) -> PanopticNetwork:
    """Return a copy of a network that predicts the same in less time, and cannot be trained.

    In the copy, batch norms are folded into the layer before them (convolution, transposed convolution, linear layer),
    so that of an in-place ABN its leaky ReLU is left, or nothing. On a CPU, convolution and leaky ReLU become one
    operation (see ``ConvLeakyReLU``); on CUDA, where Triton runs, leaky ReLU and bias do (see ``BiasLeakyReLU``). Which
    layer that is, is not guessed from names: the copy predicts one small image of noise, and a norm is folded where in
    that call

    * every output of the layer went to the norm, and every input of the norm came from the layer;
    * no other operation read that output, and nothing but the layer its weights;
    * the folded layer computes what both did, to 1e-6 in float64, on other noise;

    and where no hook of others hangs on one of the two. A norm or layer that the call did not reach stays as it is. So
    does everything if the network cannot predict an image of 64x64 pixels. A network whose data flow hangs on what is
    in an image (another layer before the same norm) is beyond that rule.

    Args:
        network: of any family; it stays as it is. Copy it again when it has learned on.
        dtype: of autocast, where predictions run in it: weights that autocast casts to it in each call are cast once,
            here. All others, such as those of layer norms, stay as they are. ``None`` keeps all.
        channels_last: lay weights out channels last, which is faster for depthwise convolutions and on tensor cores.
        cuda_graphs: on a CUDA device, replay what depends on the size of the images alone (see ``CUDAGraphs``).

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
        except Exception as error:  # networks of others may do anything
            _logger.warning(
                "Predictions take longer than they could: what flows where in %s cannot be seen on an image of noise, "
                "%dx%d pixels (%s: %s).", type(network).__name__, _SIDE, _SIDE, type(error).__name__, error,
            )  # fmt: skip
            copy = _frozen_copy(network, channels_last=channels_last)
        else:
            number, all_norms = len(norms.folded), len(norms.folded) + len(norms.kept)
            stay = f"; these stay: {', '.join(norms.kept)}" if norms.kept else ""
            _logger.info("%d of %d norms are folded%s.", number, all_norms, stay)
    copy.compile_again()
    if cuda_graphs and _device(copy).type == "cuda":
        copy.replay = CUDAGraphs()
    return copy


class InferenceCopies:
    """Holds the inference copy of a network while its weights stay as they are.

    It is no module: the copy takes no part in a state dict, and deep copies and pickles of the holder are empty.
    """

    def __init__(self) -> None:
        self._copy: PanopticNetwork | None = None
        self._graphs_fail = False

    def of(self, network: PanopticNetwork, *, dtype: torch.dtype | None = None) -> PanopticNetwork:
        """Return the copy of a network, made now if there is none, see ``inference_copy``."""
        if self._copy is None:
            self._copy = inference_copy(network, dtype=dtype, cuda_graphs=not self._graphs_fail)
        return self._copy

    def drop(self) -> None:
        """Forget the copy: the network is about to change, and its memory is wanted."""
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
    """Fold the norms of a network in place, and cast what autocast would; the rules are those of ``inference_copy``.

    Args:
        network: in evaluation mode; nothing but predictions can be made with it afterwards.
        dtype: of autocast.

    Raises:
        Exception: whatever the network raises at an image of 64x64 pixels.
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
                cast.add(f"{layer}.bias")  # of a folded layer it is new
        for name, parameter in network.named_parameters():
            if name in cast:
                parameter.data = parameter.data.to(dtype)
    return result


def _frozen_copy(network: PanopticNetwork, *, channels_last: bool) -> PanopticNetwork:
    copy = deepcopy(network).eval().requires_grad_(False)
    set_norm_implementation(copy, "eager")  # where statistics are fixed, that is one operation and an activation
    if channels_last:
        copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copy


def _predict_noise(network: PanopticNetwork, dtype: torch.dtype | None) -> None:
    """Predict one small image, as predictions will run, without trying out kernels for its size."""
    device = _device(network)
    noise = torch.randint(256, (1, 3, _SIDE, _SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    size = [(_SIDE, _SIDE)]
    batch = ImageBatch(images=noise.to(device), image_sizes=size, original_sizes=size, image_ids=["noise"])
    autocast = torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False), autocast:
        network.predict(batch)


@contextmanager
def _not_called(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Refuse calls of modules: what was replaced must not be reached by another way."""

    def refuse(module: nn.Module, args: Any) -> None:
        raise RuntimeError(f"a norm that was folded is called still: {module}")

    handles = [module.register_forward_pre_hook(refuse) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _device(network: nn.Module) -> torch.device:
    return next((p.device for p in network.parameters()), torch.device("cpu"))
