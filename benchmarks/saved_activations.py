"""Bytes of activations that a forward pass saves for its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _NewStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records a weak reference to every storage that an operation allocates."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and (storage := leaf.untyped_storage())._cdata not in given:
                # The address can be reused by a later storage, after the first one is freed.
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self.found[storage._cdata] = (reference, storage.nbytes())
        return result


def saved_activation_bytes(loss: Callable[[], torch.Tensor]) -> tuple[int, torch.Tensor]:
    """Return the bytes allocated by a forward pass that are still alive after it, and the loss that keeps them alive.

    Each storage counts once. The count includes tensors saved by autograd and the inputs of checkpointed parts, which
    saved-tensor hooks do not see. It excludes parameters, buffers and the batch, which exist before.

    >>> x = torch.ones(1000, requires_grad=True)
    >>> saved_activation_bytes(lambda: x.exp().sin().sum())[0]  # result of exp (also the input of sin), and the sum
    4004
    """
    with _NewStorages() as storages:
        total = loss()
    alive = sum(size for reference, size in storages.found.values() if not reference.expired())
    return alive, total
