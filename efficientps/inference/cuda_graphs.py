"""CUDA graphs: what depends on the size of images alone is recorded once and launched as one."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_WARM_UPS = 2
"""Calls before a recording, in which libraries choose their kernels and take their memory."""


class Recorder(Protocol):
    """Records what a function launches."""

    def __call__(self, function: Callable[[], T]) -> tuple[Callable[[], object], T]:
        """Return a function that launches all of it again, and the result, which is written by each such launch."""
        ...


class CUDARecorder:
    """Records on the current device, all recordings in one pool of memory.

    That is safe although they are replayed in any order, because none reads what another has left.
    """

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], T]) -> tuple[Callable[[], object], T]:
        """Warm up on a stream beside the current one, with cuDNN looking for its fastest kernels, and record."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        current, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        tuning = torch.backends.cudnn.benchmark
        try:
            beside.wait_stream(current)
            torch.backends.cudnn.benchmark = True  # a recording is replayed many times, with the kernels chosen here
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    function()
            current.wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            # Threads that load data or watch other processes may call CUDA meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                result = function()
        except BaseException:
            torch.cuda.set_stream(current)  # a recording that breaks off leaves its own stream in place
            raise
        finally:
            torch.backends.cudnn.benchmark = tuning
        return graph.replay, result


@dataclass
class _Recording:
    inputs: tuple[Tensor, ...]
    replay: Callable[[], object]
    result: Any


class CUDAGraphs:
    """Calls functions of tensors; from the second call with inputs of a size on, by a graph recorded for that size.

    A graph launches in one what its function launches in hundreds of steps, always from and to the same memory: inputs
    are copied in, and **the next call with that size overwrites the result**. A result is to be used up before.

    Only so many graphs are kept, because each holds the memory of its result (and one pool for what is in between).
    Another size then replaces the one met least only when it has been met twice as often, so that data of a hundred
    sizes does not record all the time. If a recording fails (for want of memory, or for an operation that waits for the
    device), a warning says so and all calls from then on are plain ones, of the same function.

    Args:
        most: graphs that are kept.
        recorder: records; the default records on the device of the inputs.

    Attributes:
        failed: whether a recording has failed.
    """

    def __init__(self, *, most: int = 4, recorder: Recorder | None = None) -> None:
        self.most = most
        self.failed = False
        self._recorder: Recorder = CUDARecorder() if recorder is None else recorder
        self._met: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, function: Callable[..., T], *inputs: Tensor) -> T:
        """Return ``function(*inputs)``, whose shapes, types and launches follow from those of the inputs alone."""
        if self.failed:
            return function(*inputs)
        key = _key(function, inputs)
        self._met[key] += 1
        if key not in self._recordings:
            if not self._is_worth_it(key):
                return function(*inputs)
            try:
                self._record(key, function, inputs)
            except Exception as error:  # whatever it is, the plain call says it again if it is no matter of graphs
                self.clear()
                self.failed = True
                sentence = str(error).partition("\n")[0]
                warnings.warn(
                    f"No CUDA graph could be recorded for inputs of {[tuple(x.shape) for x in inputs]}; predictions go "
                    f"on without, and take longer where a single image leaves the device idle. {sentence}",
                    stacklevel=2,
                )
                return function(*inputs)
        recording = self._recordings[key]
        for buffer, given in zip(recording.inputs, inputs, strict=True):
            buffer.copy_(given)
        recording.replay()
        result: T = recording.result
        return result

    def clear(self) -> None:
        """Drop all graphs and their memory; what was met is forgotten as well."""
        self._recordings.clear()
        self._met.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> CUDAGraphs:
        """Graphs belong to the memory of one network: a copy begins without."""
        return CUDAGraphs(most=self.most)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds no graphs either."""
        return (CUDAGraphs, ())

    def _is_worth_it(self, key: Hashable) -> bool:
        if self._met[key] < 2:
            return False
        if len(self._recordings) < self.most:
            return True
        return self._met[key] >= 2 * min(self._met[kept] for kept in self._recordings)

    def _record(self, key: Hashable, function: Callable[..., T], inputs: tuple[Tensor, ...]) -> None:
        if len(self._recordings) >= self.most:
            del self._recordings[min(self._recordings, key=lambda kept: self._met[kept])]
        with torch.inference_mode(False):  # so that they can be written in inference mode and out of it
            buffers = tuple(torch.empty_like(x) for x in inputs)
        for buffer, given in zip(buffers, inputs, strict=True):
            buffer.copy_(given)
        device = inputs[0].device

        def call() -> T:
            # What autocast keeps for later would be freed with its context, while the graph still reads it.
            autocast = torch.autocast(
                device.type,
                dtype=torch.get_autocast_dtype(device.type),
                enabled=torch.is_autocast_enabled(device.type),
                cache_enabled=False,
            )
            with autocast:
                return function(*buffers)

        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            replay, result = self._recorder(call)
        self._recordings[key] = _Recording(buffers, replay, result)


def _key(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Hashable:
    """Return all that a recording hangs on; the function by its name, as it would hold its network alive."""
    kind = inputs[0].device.type
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    of_inputs = tuple((x.shape, x.stride(), x.dtype, x.device) for x in inputs)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return name, of_inputs, autocast, torch.is_inference_mode_enabled()
