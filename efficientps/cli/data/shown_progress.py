"""Show the progress of a command: a bar on a terminal, plain lines where standard output is a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tqdm import tqdm


@contextmanager
def shown_progress(
    what: str, *, unit: str = "images", every_seconds: float = 10.0
) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows progress; nothing is shown before its first call.

    Args:
        what: what is made.
        unit: plural of what is counted.
        every_seconds: time between two lines.

    Yields:
        A function of (number done, number in all).
    """
    last = time.monotonic()
    bars: list[tqdm[None]] = []
    with ExitStack() as stack:

        def show(done: int, total: int) -> None:
            nonlocal last
            if not bars:
                bars.append(stack.enter_context(tqdm(desc=what, total=total, unit=f" {unit}", disable=None)))
            bars[0].update(done - bars[0].n)
            now = time.monotonic()
            if not sys.stdout.isatty() and now - last >= every_seconds:
                print(f"{what}: {done} of {total} {unit}", flush=True)
                last = now

        yield show
