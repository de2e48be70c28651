"""CUDA graphs: the kernels of a function are recorded once per input size, and then launched together."""

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
"""Calls before a recording, during which libraries choose their kernels and allocate their memory."""


class Recorder(Protocol):
    """Records the kernels that a function launches."""

    def __call__(self, function: Callable[[], T]) -> tuple[Callable[[], object], T]:
        """Return a function that launches the kernels again, and the result, which each launch overwrites."""
        ...


class CUDARecorder:
    """Records on the current device; all recordings share one memory pool.

    Sharing is safe in any order of replay, because no recording reads values that another one has left in the pool.
    """

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Callable[[], T]) -> tuple[Callable[[], object], T]:
        """Warm up on a second stream, where cuDNN searches for its fastest kernels; then record."""
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
            # Other threads (data loading, NCCL's watchdog) may call CUDA during the recording.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                result = function()
        except BaseException:
            torch.cuda.set_stream(current)  # a recording that fails leaves its own stream as the current one
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
    """Calls functions of tensors; from the second call with an input size on, it replays a graph for that size.

    A graph launches hundreds of kernels together. It always reads and writes the same memory: inputs are copied into
    it, and **the next call with that size overwrites the result**. Use or copy a result before the next call.

    At most ``most`` graphs are kept, because each holds the memory of its result (all share one pool for intermediate
    values). When the limit is reached, a new size replaces the least frequent one only after it has occurred twice as
    often; so data with a hundred sizes does not record all the time. If a recording fails (because memory runs out, or
    an operation synchronises with the device), a warning says so, and all later calls run the function without graphs.

    Args:
        most: number of graphs that are kept.
        recorder: records a function; the default records on the device of the inputs.

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
        """Return ``function(*inputs)``; its kernels and its results' shapes must depend on the input shapes alone."""
        if self.failed:
            return function(*inputs)
        key = _key(function, inputs)
        self._met[key] += 1
        if key not in self._recordings:
            if not self._is_worth_it(key):
                return function(*inputs)
            try:
                self._record(key, function, inputs)
            except Exception as error:  # an error of the function itself is raised again by the plain call below
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
        """Drop all graphs, their memory, and the counts of input sizes."""
        self._recordings.clear()
        self._met.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> CUDAGraphs:
        """Return an instance without graphs, because graphs refer to the memory of one network."""
        return CUDAGraphs(most=self.most)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as an instance without graphs."""
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
        with torch.inference_mode(False):  # so that the buffers can be written inside and outside of inference mode
            buffers = tuple(torch.empty_like(x) for x in inputs)
        for buffer, given in zip(buffers, inputs, strict=True):
            buffer.copy_(given)
        device = inputs[0].device

        def call() -> T:
            # No cache: autocast frees its cached casts with its context, while the graph would still read them.
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
    """Return everything that a recording depends on.

    The function is represented by its name, because a reference would keep its network alive.
    """
    kind = inputs[0].device.type
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    of_inputs = tuple((x.shape, x.stride(), x.dtype, x.device) for x in inputs)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return name, of_inputs, autocast, torch.is_inference_mode_enabled()
