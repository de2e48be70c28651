"""Work in several threads whose results come in order, with little memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 64
"""Pieces of work for each thread that are begun before their results are asked for."""


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None) -> Iterator[Result]:
    """Yield what a function makes of each item.

    Unlike the method ``map`` of an executor, this takes items as it needs them: a hundred thousand pieces of work are
    never in memory at once.

    Args:
        work: the function.
        items: what it is called with.
        threads: how many threads call it; by default one for each core.
    """
    count = threads or os.cpu_count() or 1
    rest = iter(items)
    with ThreadPoolExecutor(count) as pool:
        waiting: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(rest, _AHEAD * count))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
            yield result
