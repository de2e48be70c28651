"""Collect Python objects from all processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.distributed

T = TypeVar("T")


def gather(item: T) -> list[T]:
    """Return the objects of all processes, in the order of their ranks; every process must call it.

    Args:
        item: the object of this process; it is pickled where there are several processes.

    >>> gather({"rank": 0})
    [{'rank': 0}]
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [item]
    items: list[T | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(items, item)
    return items  # type: ignore[return-value] # every place is filled now


def gather_items(items: Sequence[T]) -> list[T]:
    """Return the items of all processes as one list, in the order of their ranks; every process must call it.

    >>> gather_items(("a", "b"))
    ['a', 'b']
    """
    return [item for part in gather(items) for item in part]
