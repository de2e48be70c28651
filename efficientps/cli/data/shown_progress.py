"""Show the progress of a command: a bar on a terminal, plain lines where standard output is a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


@contextmanager
def shown_progress(
    what: str, *, unit: str = "images", every_seconds: float = 10.0
) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function that shows progress; nothing is shown before its first call.

    Args:
        what: what is made.
        unit: plural of what is counted.
        every_seconds: time between two lines.

    Yields:
        A function of (number done, number in all, or None where it is not known).
    """
    last = time.monotonic()
    bars: list[tqdm[None]] = []
    with ExitStack() as stack:

        def show(done: int, total: int | None) -> None:
            nonlocal last
            if not bars:
                bars.append(stack.enter_context(tqdm(desc=what, total=total, unit=f" {unit}", disable=None)))
            bars[0].update(done - bars[0].n)
            now = time.monotonic()
            if not sys.stdout.isatty() and now - last >= every_seconds:
                of = "" if total is None else f" of {total}"
                print(f"{what}: {done}{of} {unit}", flush=True)
                last = now

        yield show


def followed(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield images, or what is made of them, and show how many there were.

    Args:
        items: one for each image.
        what: what is made.
        total: number of items.
    """
    with shown_progress(what) as show:
        for done, item in enumerate(items, start=1):
            show(done, total)
            yield item
