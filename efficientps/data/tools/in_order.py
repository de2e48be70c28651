"""Work in several processes whose results come in order.

Reading a small image is mostly work of Python, which threads of one process do in turns.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from efficientps.data.loading.worker_count import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 8
"""Processes that are started by default at most; each takes some tens of megabytes."""


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None = None
) -> Generator[Result, None, None]:
    """Yield what a function makes of each item.

    On Linux the processes are forked off, so that they share the memory of the function and of the items; elsewhere
    both must be picklable. The processes take turns with the items, and each waits while its results are not asked
    for. Whatever ends this generator ends them at once; close it, so that it does not wait for the garbage collector.

    Args:
        work: the function.
        items: what it is called with.
        workers: how many processes call it; 1 calls it in this one. By default one for each core, at most
            ``MAX_WORKERS``.

    Raises:
        BrokenExecutor: if a process was killed.
        Exception: what the function raises.
    """
    count = min(workers or min(available_cores(), MAX_WORKERS), len(items))
    if count <= 1:
        yield from map(work, items)
        return
    context = get_context("fork" if sys.platform == "linux" else None)
    running: list[tuple[BaseProcess, Connection]] = []
    try:
        for first in range(count):
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(work, items[first::count], sending), daemon=True)
            process.start()
            running.append((process, receiving))
            sending.close()  # the process has the only other end: when it is killed, the pipe ends
        for number in range(len(items)):
            yield _result(*running[number % count])
    finally:
        for begun, _ in running:
            begun.kill()
        for begun, receiving in running:
            begun.join()
            receiving.close()


def _serve(work: Callable[[Item], Result], items: Sequence[Item], results: Connection) -> None:
    """Send what a function makes of each item, or the exception that it raises; the body of a process."""
    gc.freeze()  # the collector would write into the pages that processes share
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes; the main one ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for item in items:
            try:
                result: Result | Exception = work(item)
            except Exception as error:
                result = error
            results.send(result)
    except BrokenPipeError:
        pass  # the main process was killed


def _result(process: BaseProcess, results: Connection) -> Any:
    """Receive a result; raise what the function has raised."""
    try:
        result = results.recv()
    except (EOFError, OSError):
        process.join()
        raise BrokenExecutor(f"A process was killed (exit code {process.exitcode}).") from None
    if isinstance(result, Exception):
        raise result
    return result
