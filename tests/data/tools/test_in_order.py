"""Work in several processes: the order of its results, and the end of the processes."""

import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import BrokenExecutor
from contextlib import closing
from pathlib import Path

import pytest

from efficientps.data.tools.in_order import in_order


def squared(number):
    """Square a number, more slowly if it is odd."""
    time.sleep(number % 2 / 100)
    return os.getpid(), number**2


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers):
    """Oracle: a comprehension."""
    results = list(in_order(squared, range(30), workers=workers))
    assert [square for _, square in results] == [number**2 for number in range(30)]
    processes = {process for process, _ in results}
    assert processes == {os.getpid()} if workers == 1 else len(processes) == workers
    assert not multiprocessing.active_children()


def failing(number):
    """Fail at 5."""
    if number == 5:
        raise ValueError("five is odd")
    return number


def test_an_error_comes_in_its_place_and_ends_the_processes():
    """Oracle: definition."""
    seen = []
    with pytest.raises(ValueError, match="five is odd"):
        for number in in_order(failing, range(9), workers=2):
            seen.append(number)
    assert seen == list(range(5))
    assert not multiprocessing.active_children()


def killed(number):
    """Die at 4, as the kernel ends a process when memory is short."""
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_is_an_error():
    """Oracle: definition."""
    with pytest.raises(BrokenExecutor, match=r"A process was killed \(exit code -9\)"):
        list(in_order(killed, range(9), workers=2))
    assert not multiprocessing.active_children()


def test_processes_end_at_once_with_the_block_that_uses_them():
    """Oracle: hand-worked; the second item alone takes a minute."""
    begin = time.monotonic()
    with closing(in_order(time.sleep, [0, 60, 60, 60], workers=2)) as results:
        next(results)
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children() and time.monotonic() - begin < 20


def forever(number):
    """Send results until somebody ends this process."""
    return bytes(1 << 16)


def use_forever():
    for _ in in_order(forever, range(10**9), workers=2):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which processes there are")
def test_processes_end_when_the_main_one_is_killed():
    """Oracle: definition; each process is blocked by a full pipe."""
    main = multiprocessing.get_context("fork").Process(target=use_forever)
    main.start()
    children = Path(f"/proc/{main.pid}/task/{main.pid}/children")
    while len(workers := children.read_text().split()) < 2:
        time.sleep(0.01)
    main.kill()
    main.join()
    limit = time.monotonic() + 20
    while any(Path("/proc", worker).exists() for worker in workers):
        assert time.monotonic() < limit, "a process goes on without the main one"
        time.sleep(0.01)


def write_slowly(path):
    """Write a file in two pieces."""
    with path.open("w") as file:
        file.write("be")
        file.flush()
        time.sleep(0.5)
        file.write("gun")


def test_what_writes_finishes_its_item(tmp_path):
    """Oracle: definition; the first result comes while both processes write their second file."""
    paths = [tmp_path / str(number) for number in range(40)]
    with closing(in_order(write_slowly, paths, workers=2, writes=True)) as results:
        next(results)
        while not paths[2].exists() or not paths[3].exists():
            time.sleep(0.01)
    written = sorted(int(path.name) for path in tmp_path.iterdir())
    assert written[:4] == [0, 1, 2, 3] and len(written) <= 6
    assert {path.read_text() for path in tmp_path.iterdir()} == {"begun"}
    assert not multiprocessing.active_children()
