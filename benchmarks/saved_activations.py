"""How many bytes of activations a forward pass leaves behind for its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _NewStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every storage that an operation makes, without keeping it; a view or a change in place makes none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and (storage := leaf.untyped_storage())._cdata not in given:
                # A number can be given out again to a later storage, once the first is gone.
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self.found[storage._cdata] = (reference, storage.nbytes())
        return result


def saved_activation_bytes(loss: Callable[[], torch.Tensor]) -> tuple[int, torch.Tensor]:
    """Return the bytes that are alive after a forward pass and were not before, and the loss that keeps them alive.

    Counted are all tensors made on the way that still exist: what autograd keeps, once for each storage, and the inputs
    of checkpointed parts, which saved-tensor hooks do not see. Parameters, buffers and the batch were there before.

    >>> x = torch.ones(1000, requires_grad=True)
    >>> saved_activation_bytes(lambda: x.exp().sin().sum())[0]  # of exp its result, of sin its input, and the sum
    4004
    """
    with _NewStorages() as storages:
        total = loss()
    alive = sum(size for reference, size in storages.found.values() if not reference.expired())
    return alive, total
