"""The number of processes that load data, from the number of available CPU cores."""

from __future__ import annotations

import os
from pathlib import Path

MAX_WORKERS = 16
"""Largest number of workers of one loader."""


def workers_for(*, cores: int, processes: int) -> int:
    """Return how many workers each loader of a training process gets: its share of the cores, less one for itself.

    Args:
        cores: CPU cores of all processes together.
        processes: training processes on this machine, usually one for each GPU.

    Returns:
        0 to ``MAX_WORKERS``; 0 on a single core, where a worker could only take turns with the training process.

    >>> [workers_for(cores=cores, processes=1) for cores in (1, 2, 4, 16, 64)]
    [0, 1, 3, 15, 16]
    >>> workers_for(cores=64, processes=8)
    7
    """
    return min(MAX_WORKERS, max(0, cores // processes - 1))


def available_cores(control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the CPU cores that this process may use: those it is bound to, or the quota of its container if less.

    Args:
        control_groups: where Linux mounts control groups, of version 1 or 2; a container sees its own there.

    Returns:
        At least 1.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(control_groups)
    return max(1, bound if quota is None else min(bound, int(quota)))


def _quota(control_groups: Path) -> float | None:
    """Return the cores that a control group's processor time amounts to, ``None`` if it is not limited."""
    version_1 = control_groups / "cpu"
    for files in ([control_groups / "cpu.max"], [version_1 / "cpu.cfs_quota_us", version_1 / "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join(file.read_text() for file in files).split()
            return int(quota) / int(period) if int(quota) > 0 else None
        except (OSError, ValueError):  # of the other version, or "max", which is no number
            continue
    return None
