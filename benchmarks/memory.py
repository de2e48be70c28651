"""The memory that a call takes at its peak, beyond what was taken before it."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Of ``clear_refs``, see proc(5): forget the highest resident size so far."""


def peak_bytes(function: Callable[[], object], *, device: torch.device | str = "cpu") -> int | None:
    """Return how many bytes a call takes at its peak, its result included.

    On a CUDA device it is what the allocator handed out. On a CPU it is the resident memory of the process, whoever
    took it, as Linux keeps it; None on other systems.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()
        torch.cuda.synchronize()
        del result
        return torch.cuda.max_memory_allocated() - before
    if not _forget_peak():
        return None
    start = _resident("VmRSS")
    result = function()
    peak = _resident("VmHWM")
    del result
    return max(0, peak - start)


def _forget_peak() -> bool:
    """Hand free memory back to the system and forget the peak; return whether the system can do so."""
    try:
        # Otherwise a call could live off memory that was freed, and not handed back, before it.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
    except (OSError, AttributeError):
        return False
    return True


def _resident(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
