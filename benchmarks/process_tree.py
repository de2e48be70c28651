"""Time and peak memory of a command, with all processes that it starts."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.05
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: CPU time of all of its processes.
        peak_bytes: largest memory at one time. Memory that several processes share counts once.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def usage_of(command: Sequence[str], *, folder: Path, until: Path | None = None, limit: float = 1800) -> Usage:
    """Run a command to its end, or until it makes a file, and measure it.

    One process counts with its peak resident size, of which the kernel keeps record. Several processes count with the
    sum of their proportional set sizes (proc(5)), looked at again and again.

    Args:
        command: the program and its arguments.
        folder: working directory.
        until: if given, the command is ended when this file appears.
        limit: seconds after which it is ended.

    Raises:
        ValueError: on other systems than Linux, or if the command fails, takes too long, or ends without the file.
    """
    if sys.platform != "linux":
        raise ValueError("The memory of several processes is measured on Linux alone.")
    before, seen, peak = _reaped(), 0.0, 0
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
        try:
            while process.poll() is None and not (until and until.exists()):
                if time.perf_counter() - begin > limit:
                    raise ValueError(f"{command} took more than {limit:g} s.")
                pids = _tree(process.pid)
                peak = max(peak, _memory(pids))
                seen = max(seen, sum(map(_cpu_seconds, pids)))
                time.sleep(_INTERVAL)
            seconds = time.perf_counter() - begin
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        made = until is not None and until.exists()
        if not made and (process.returncode or until):
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines() or ["no output"]
            raise ValueError(f"'{' '.join(command)}' ended with code {process.returncode}: {lines[-1]}")
    return Usage(seconds, max(_reaped() - before, seen), peak)


def _reaped() -> float:
    """Return the CPU seconds of the processes that this one has waited for, and of those that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    pids = [pid]
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                pids += _tree(int(child))
    return pids


def _memory(pids: Sequence[int]) -> int:
    """Return the memory of a process and its descendants in bytes."""
    peak = _field(f"/proc/{pids[0]}/status", "VmHWM")
    return peak if len(pids) == 1 else max(peak, sum(_field(f"/proc/{pid}/smaps_rollup", "Pss") for pid in pids))


def _field(path: str, name: str) -> int:
    """Return a size of a file of the kernel in bytes; 0 once the process has ended."""
    with contextlib.suppress(OSError):
        if found := re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    return 0


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of the descendants that it has waited for; 0 once it has ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0
