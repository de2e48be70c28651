"""Timing of several functions in turns, so that a slow phase of the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch


@dataclass(frozen=True)
class Timing:
    """Duration of a call.

    Attributes:
        seconds: median wall-clock time.
        low: first quartile of the wall-clock time.
        high: third quartile of the wall-clock time.
        cpu_seconds: median CPU time of the process; on a shared machine it varies less than the wall-clock time.
        rounds: number of timed calls.
    """

    seconds: float
    low: float
    high: float
    cpu_seconds: float
    rounds: int


def alternate(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    device: torch.device | str = "cpu",
    warm_up: bool = True,
) -> dict[str, Timing]:
    """Time functions in turns: one untimed call of each, then rounds in which each is called once.

    Every second round runs in reverse order, so that no function always follows the same other one.

    Args:
        sides: functions by name; their results are dropped.
        rounds: number of timed calls of each function.
        device: on a CUDA device, each call is synchronised before and after.
        warm_up: make the untimed calls; not needed if each function has been called before.

    Raises:
        ValueError: if ``rounds`` is less than 1.

    >>> sorted(alternate({"a": lambda: 1, "b": lambda: 2}, rounds=3))
    ['a', 'b']
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; at least 1 call must be timed.")
    on_cuda = torch.device(device).type == "cuda"
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for function in sides.values() if warm_up else ():
        function()
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            if on_cuda:
                torch.cuda.synchronize()
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            sides[name]()
            if on_cuda:
                torch.cuda.synchronize()
            wall[name].append(time.perf_counter() - wall_start)
            cpu[name].append(time.process_time() - cpu_start)
    return {name: _timing(wall[name], cpu[name]) for name in sides}


def _timing(wall: list[float], cpu: list[float]) -> Timing:
    low, middle, high = np.percentile(wall, (25, 50, 75)).tolist()
    return Timing(seconds=middle, low=low, high=high, cpu_seconds=median(cpu), rounds=len(wall))
