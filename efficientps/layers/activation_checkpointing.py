"""Activation checkpointing: drop the activations of a part of the network and recompute them in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from efficientps.layers.norm_act import keep_statistics

P = ParamSpec("P")
R = TypeVar("R")


def checkpointed(function: Callable[P, R], *inputs: P.args, **options: P.kwargs) -> R:
    """Call a function; keep only its inputs for the backward pass, which calls the function a second time.

    The second call draws the same random numbers as the first and does not update the running statistics of
    norms, so gradients and statistics equal those of a plain call. If gradients are disabled, this is a plain
    call.

    Args:
        function: takes and returns tensors, or containers of tensors. Batch norms of PyTorch keep their statistics only
            where it is a module that contains them.
        inputs: positional arguments of the function.
        options: keyword arguments of the function.
    """
    if not torch.is_grad_enabled():
        return function(*inputs, **options)
    call = cast(Any, checkpoint)
    return cast(R, call(function, *inputs, use_reentrant=False, context_fn=partial(_contexts, function), **options))


def _contexts(function: Callable[..., Any]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the first and of the second call."""
    return nullcontext(), _kept_statistics(function)


@contextmanager
def _kept_statistics(function: Callable[..., Any]) -> Iterator[None]:
    """Prevent all norms inside a module from updating their running statistics."""
    modules = function.modules() if isinstance(function, nn.Module) else ()
    norms = [(layer, layer.momentum, layer.num_batches_tracked) for layer in modules if isinstance(layer, _BatchNorm)]
    for norm, _, _ in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        with keep_statistics():
            yield
    finally:
        for norm, momentum, count in norms:
            norm.momentum, norm.num_batches_tracked = momentum, count
