"""Activation checkpointing: drop the activations of a part of the network and recompute them in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch.utils.checkpoint import checkpoint

from efficientps.layers.norm_act import keep_statistics

P = ParamSpec("P")
R = TypeVar("R")


def checkpointed(function: Callable[P, R], *inputs: P.args, **options: P.kwargs) -> R:
    """Call a function; keep only its inputs for the backward pass, which calls the function a second time.

    The second call draws the same random numbers as the first and does not update the running statistics of
    ``InPlaceABN``, so gradients and statistics equal those of a plain call. If gradients are disabled, this is a plain
    call.

    Args:
        function: takes and returns tensors, or containers of tensors.
        inputs: positional arguments of the function.
        options: keyword arguments of the function.
    """
    if not torch.is_grad_enabled():
        return function(*inputs, **options)
    call = cast(Any, checkpoint)
    return cast(R, call(function, *inputs, use_reentrant=False, context_fn=_contexts, **options))


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the first and of the second call."""
    return nullcontext(), keep_statistics()
