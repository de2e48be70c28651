"""A CUDA device that only counts: tensors with real values on the CPU that report ``cuda``, where there is no card."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from benchmarks.device_count import DeviceCount
from benchmarks.python_backward import python_backward

T = TypeVar("T")

DEVICE = torch.device("cuda:0")

_WAITS = frozenset(
    """_local_scalar_dense nonzero _unique2 unique_dim unique_consecutive masked_select is_nonzero equal bincount nms
    """.split()
)
"""Operations whose result, or its size, the host must know before it goes on."""

_NO_LAUNCH = frozenset(
    """_unsafe_view _local_scalar_dense lift_fresh empty empty_like empty_strided new_empty new_empty_strided resize_
    set_ is_same_size result_type is_nonzero is_pinned record_stream
    """.split()
)
"""Operations that run no kernel, beside those that return a view."""

_INDEXING = frozenset(("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"))

_TAKES_BOTH_DEVICES = _INDEXING | {"copy_", "_to_copy", "result_type", "set_"}

_count: ContextVar[DeviceCount | None] = ContextVar("device_count", default=None)


class CountedTensor(Tensor):
    """A tensor that lies in the host's memory and reports a CUDA device; all operations on it are counted."""

    host: Tensor

    @staticmethod
    def __new__(cls: type[CountedTensor], values: Tensor) -> CountedTensor:
        """Wrap values, which the two tensors share from then on."""
        made: CountedTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=DEVICE,
            requires_grad=False,
        )
        made.host = values
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        """Show the values, without a wait."""
        return f"CountedTensor({self.host})"

    def tolist(self) -> Any:
        """Return the values as Python numbers; the host waits."""
        _note("wait", "tolist")
        return self.host.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count an operation and compute it on the CPU."""
        return _run(func, args, dict(kwargs or {}))


class _CountingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what makes tensors on the device out of nothing, or out of tensors of the host."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


@contextlib.contextmanager
def counting_device() -> Iterator[DeviceCount]:
    """Count what a program asks of a CUDA device, on a machine without one.

    Inside, PyTorch says that there is a device. What ``on_device`` has moved, and what the program makes with
    ``device="cuda"``, computes on the CPU and reports ``cuda``; autocast casts by its rules for CUDA. ``backward``
    walks the graph in Python, see ``python_backward``. All of that ends with the context.

    Use ``torch.no_grad`` in place of ``torch.inference_mode``, which knows no such tensors.
    What is not seen: kernels that one operation launches beyond its first, the memory allocator, Triton and CUDA
    graphs.

    >>> with counting_device() as count:
    ...     x = on_device(torch.tensor([1.0, 0.0, 2.0]))
    ...     places = (x + 1 > 1.5).nonzero()
    >>> count.launches, count.waits, places.shape
    (3, 1, torch.Size([2, 1]))
    """
    count = DeviceCount()
    torch._C._ensureCUDADeviceGuardSet()  # as FakeTensorMode: a device guard that does nothing where there is no device
    lifts_host_tensors_only = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    token = _count.set(count)
    answers: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda *args, **kwargs: True,
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda device=None: count.add("wait", "synchronize"),
    }
    try:
        with contextlib.ExitStack() as stack:
            for name, answer in answers.items():
                stack.enter_context(patch.object(torch.cuda, name, answer))
            stack.enter_context(python_backward())
            stack.enter_context(_CountingMode())  # type: ignore[no-untyped-call]
            yield count
    finally:
        _count.reset(token)
        torch._C._set_only_lift_cpu_tensors(lifts_host_tensors_only)


def on_device(value: T) -> T:
    """Return tensors, containers of them, or a module, as they are on the counting device; a module is changed itself.

    Nothing is counted, and the values are shared with the originals.
    """
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and not isinstance(parameter.data, CountedTensor):
                    moved = nn.Parameter(CountedTensor(parameter.data), requires_grad=parameter.requires_grad)
                    module._parameters[name] = moved
            for name, buffer in module._buffers.items():
                if buffer is not None and not isinstance(buffer, CountedTensor):
                    module._buffers[name] = CountedTensor(buffer)
        return value
    if isinstance(value, Tensor):
        return cast(T, value if isinstance(value, CountedTensor) else CountedTensor(value))
    if isinstance(value, dict):
        return cast(T, {key: on_device(entry) for key, entry in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return cast(T, type(value)(*(on_device(entry) for entry in value)))
    if isinstance(value, (list, tuple)):
        return cast(T, type(value)(on_device(entry) for entry in value))
    return value


def _note(kind: Any, operation: str) -> None:
    count = _count.get()
    if count is not None:
        count.add(kind, operation)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Count an operation and compute it on the CPU; its result is on the device if it would be."""
    name = func._schema.name.split("::")[-1]
    flat, _ = tree_flatten((args, kwargs))
    on_device_too = [x for x in flat if isinstance(x, CountedTensor)]
    on_host = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, CountedTensor)]
    target = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
    _count_stops(name, args, kwargs, on_device_too, on_host, target)
    found = _compute(func, name, tree_map(_values, args), _on_cpu(kwargs))
    if target == "cpu" or not (on_device_too or target == "cuda"):
        return found
    if not _is_view(func) and name not in _NO_LAUNCH:
        _note("launch", name)
    wrappers = {id(x.host): x for x in on_device_too}  # an operation in place returns the tensor that it was given
    return tree_map(lambda x: wrappers[id(x)] if id(x) in wrappers else on_device(x), found)


def _count_stops(
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    on_device_too: Sequence[CountedTensor],
    on_host: Sequence[Tensor],
    target: str | None,
) -> None:
    """Note what the host stops for, and what CUDA would refuse."""
    if not on_device_too and target != "cuda":
        return
    is_copy = name == "copy_"
    without_stop = bool(kwargs.get("non_blocking", args[2] if is_copy and len(args) > 2 else False))
    if (on_device_too and target == "cpu") or (is_copy and not isinstance(args[0], CountedTensor)):
        _note("wait", "copy to the host")
    elif on_host and not without_stop and (name == "_to_copy" or is_copy):
        _note("blocking copy", name)
    if name in _INDEXING:
        _count_indexing(name, args)
    elif on_device_too and on_host and name not in _TAKES_BOTH_DEVICES and any(x.dim() for x in on_host):
        _note("mix", name)
    if name in _WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        _note("wait", name)


def _count_indexing(name: str, args: tuple[Any, ...]) -> None:
    """Note the stops of an indexing: boolean indices on the device become numbers first, those of the host travel."""
    indices = [index for index in args[1] or () if isinstance(index, Tensor)]
    written = args[2] if name.endswith(("put", "put_", "impl_")) else None
    is_flag = [index.dtype in (torch.bool, torch.uint8) for index in indices]
    if isinstance(written, Tensor) and not isinstance(written, CountedTensor) and written.dim() == 0 and all(is_flag):
        return  # a number into a mask: filled without indices
    for index, flags in zip(indices, is_flag, strict=True):
        if not isinstance(index, CountedTensor):
            _note("blocking copy", f"index of the host in {name}")
        elif flags:
            _note("wait", f"boolean {name}")
    if isinstance(written, Tensor) and not isinstance(written, CountedTensor) and written.dim():
        _note("mix", name)


def _compute(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU, also what only CUDA has a kernel for."""
    aten = torch.ops.aten
    if name in ("_softmax", "_log_softmax") and args[2]:  # half_to_float
        return func(args[0].float(), args[1], False)
    if name in ("_softmax_backward_data", "_log_softmax_backward_data") and args[3] != args[0].dtype:
        return func(args[0], args[1], args[2], args[0].dtype).to(args[3])
    if name == "cudnn_batch_norm":
        return (*aten.native_batch_norm(*args), torch.empty(0))
    if name == "cudnn_batch_norm_backward":
        x, gradient, weight, mean, variance, saved_mean, saved_variance, eps, _ = args
        statistics = (mean, variance, saved_mean, saved_variance)
        return aten.native_batch_norm_backward(gradient, x, weight, *statistics, True, eps, [True, True, True])
    return func(*args, **kwargs)


def _values(value: Any) -> Any:
    return value.host if isinstance(value, CountedTensor) else value


def _on_cpu(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return options for the CPU: no device, no pinned memory, and no precision that only CUDA returns."""
    options = {key: tree_map(_values, value) for key, value in kwargs.items()}
    if options.get("device") is not None:
        options["device"] = torch.device("cpu")
    if "pin_memory" in options:
        options["pin_memory"] = False
    return options


def _is_view(func: Any) -> bool:
    """Return whether the results of an operation share the memory of what it is given, unchanged."""
    infos = [result.alias_info for result in func._schema.returns]
    return any(info is not None and not info.is_write for info in infos)
