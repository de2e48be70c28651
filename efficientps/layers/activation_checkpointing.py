"""Activation checkpointing: forget what is inside a part of the network, and compute it again in the backward pass."""

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
    """Call a function, and keep its inputs alone for the backward pass, which calls it a second time.

    The second call draws the same random numbers, and leaves the running statistics of ``InPlaceABN`` as they are:
    gradients and statistics are those of a plain call. Without gradients it is a plain call.

    Args:
        function: of tensors, or of containers of them.
        inputs: for it.
        options: for it.
    """
    if not torch.is_grad_enabled():
        return function(*inputs, **options)
    call = cast(Any, checkpoint)
    return cast(R, call(function, *inputs, use_reentrant=False, context_fn=_contexts, **options))


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds the first call and the second."""
    return nullcontext(), keep_statistics()
