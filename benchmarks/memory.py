"""Peak memory of a call, in addition to the memory in use before the call."""

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
"""Value for ``clear_refs`` that resets the peak resident size (proc(5))."""


def peak_bytes(
    function: Callable[[], object], *, device: torch.device | str = "cpu", collect: bool = True
) -> int | None:
    """Return the peak memory of a call in bytes, including its result.

    On a CUDA device this is the memory given out by the allocator. On a CPU it is the resident memory of the process,
    which only Linux reports; on other systems the result is None. Garbage is collected before, unless ``collect`` is
    false: that takes half a second where large packages are loaded.
    """
    if collect:
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
    """Return free memory to the system and reset the peak; return whether the system supports this."""
    try:
        # Otherwise the call could reuse memory that was freed earlier but not returned to the system.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
    except (OSError, AttributeError):
        return False
    return True


def _resident(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
