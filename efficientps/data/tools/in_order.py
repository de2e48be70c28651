"""Work in several processes whose results come in order.

Reading a small image is mostly work of Python, which threads of one process do in turns.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias, TypeVar

from efficientps.data.loading.worker_count import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
_Task: TypeAlias = tuple[Callable[[Any], Any], Sequence[Any]]

MAX_WORKERS = 8
"""Processes that are started by default at most; each takes some tens of megabytes."""


def in_order(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    writes: bool = False,
) -> Generator[Result, None, None]:
    """Yield what a function makes of each item.

    The processes take turns with the items, and each waits while its results are not asked for. Whatever ends this
    generator ends them, Ctrl-C for instance; close it, so that it does not wait for the garbage collector.

    On Linux, processes that only read are forked off: they share the memory of the function and of the items. All
    others are started anew, because packages with threads of their own do not survive a fork, and get a copy by pickle.

    Args:
        work: the function.
        items: what it is called with.
        workers: how many processes call it; 0 and 1 call it in this one. By default one for each core, at most
            ``MAX_WORKERS``.
        writes: whether the function writes files; each process then finishes the item that it has begun before it ends.

    Raises:
        BrokenExecutor: if a process was killed.
        Exception: what the function raises.
    """
    count = min(min(available_cores(), MAX_WORKERS) if workers is None else workers, len(items))
    if count <= 1:
        yield from map(work, items)
        return
    forks = sys.platform == "linux" and not writes
    context: Any = get_context("fork" if forks else "spawn")
    tasks = [(work, items[first::count]) for first in range(count)]
    if not forks and hasattr(resource_tracker, "ensure_running"):
        resource_tracker.ensure_running()  # starting it with the first process would let Ctrl-C through
    running: list[tuple[BaseProcess, Connection]] = []
    try:
        for task in tasks:
            here, there = context.Pipe()
            inherited = (here, task) if forks else None
            process = context.Process(target=_serve, args=(there, inherited, writes), daemon=True)
            running.append((process, here))
            with _interrupts_later():
                process.start()
            there.close()  # the process has the only other end: when it is killed, the pipe ends
        for (_, here), task in zip(running, tasks, strict=True):
            if not forks:
                with suppress(ConnectionError):  # it was killed; its first result is missed below
                    here.send(task)
        for number in range(len(items)):
            yield _result(*running[number % count])
    finally:
        started = [process for process, _ in running if process.pid is not None]
        for _, here in running:
            here.close()  # a process that sends again ends
        for process in started:
            process.terminate()
        for process in started:
            process.join()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Context that Ctrl-C ends only after it; a process that is started in it gets none, though a terminal sends it.

    The mask is inherited by the process. Another thread of this one may take the signal in spite of it, so that its
    handler waits as well: raised while Python forks, its exception would be lost.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
    if came and callable(handler):
        handler(came[0], None)


def _serve(pipe: Connection, inherited: tuple[Connection, _Task] | None, writes: bool) -> None:
    """Send what a function makes of each item, or the exception that it raises; the body of a process.

    Args:
        pipe: takes the results.
        inherited: of a process that was forked off: the other end of the pipe, and function and items; to others the
            latter come through the pipe.
        writes: whether it ends only between two items once it has begun.
    """
    gc.freeze()  # the collector would write into the pages that processes share
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(EOFError, ConnectionError):  # nobody asks for results any more
        if inherited is None:
            work, items = pipe.recv()
        else:
            other_end, (work, items) = inherited
            other_end.close()  # otherwise the pipe would not end with the main process
        if writes:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for item in items:
            try:
                result = work(item)
            except Exception as error:
                result = error
            pipe.send(result)


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
