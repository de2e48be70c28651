"""A simulated CUDA device that counts launches and waits: tensors on the CPU that report the device ``cuda``."""

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
"""Operations after which the host must wait, because it needs their result or the size of their result."""

_NO_LAUNCH = frozenset(
    """_unsafe_view _local_scalar_dense lift_fresh empty empty_like empty_strided new_empty new_empty_strided resize_
    set_ is_same_size result_type is_nonzero is_pinned record_stream
    """.split()
)
"""Operations that launch no kernel, in addition to those that return a view."""

_INDEXING = frozenset(("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"))

_TAKES_BOTH_DEVICES = _INDEXING | {"copy_", "_to_copy", "result_type", "set_"}

_count: ContextVar[DeviceCount | None] = ContextVar("device_count", default=None)


class CountedTensor(Tensor):
    """A tensor in CPU memory that reports a CUDA device; all operations on it are counted."""

    host: Tensor

    @staticmethod
    def __new__(cls: type[CountedTensor], values: Tensor) -> CountedTensor:
        """Wrap values; the two tensors share their memory."""
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
    """Counts operations that create tensors on the device, or copy tensors of the host to it."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


@contextlib.contextmanager
def counting_device() -> Iterator[DeviceCount]:
    """Count the launches and waits that a program would cause on a CUDA device, on a machine without one.

    Inside the context, PyTorch reports a CUDA device. Tensors and modules moved by ``on_device``, and tensors created
    with ``device="cuda"``, compute on the CPU and report ``cuda``. Autocast follows its rules for CUDA. ``backward``
    walks the graph in Python (``python_backward``).

    Use ``torch.no_grad`` instead of ``torch.inference_mode``, which does not support such tensors. Not counted are the
    second and further kernels of one operation, the memory allocator, Triton and CUDA graphs.

    >>> with counting_device() as count:
    ...     x = on_device(torch.tensor([1.0, 0.0, 2.0]))
    ...     places = (x + 1 > 1.5).nonzero()
    >>> count.launches, count.waits, places.shape
    (3, 1, torch.Size([2, 1]))
    """
    count = DeviceCount()
    torch._C._ensureCUDADeviceGuardSet()  # as in FakeTensorMode: a device guard without effect if there is no device
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
    """Move tensors, containers of tensors or a module to the counting device; a module is changed in place.

    The move itself is not counted, and the values share their memory with the originals.
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
    """Count an operation and compute it on the CPU; the result reports the device that it would have with CUDA."""
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
    wrappers = {id(x.host): x for x in on_device_too}  # an in-place operation returns its own input
    return tree_map(lambda x: wrappers[id(x)] if id(x) in wrappers else on_device(x), found)


def _count_stops(
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    on_device_too: Sequence[CountedTensor],
    on_host: Sequence[Tensor],
    target: str | None,
) -> None:
    """Count the waits and blocking copies of an operation, and the mixes of devices that CUDA would refuse."""
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
    """Count waits and copies of an indexing: boolean indices on the device cause a wait, indices of the host a copy."""
    indices = [index for index in args[1] or () if isinstance(index, Tensor)]
    written = args[2] if name.endswith(("put", "put_", "impl_")) else None
    is_flag = [index.dtype in (torch.bool, torch.uint8) for index in indices]
    if isinstance(written, Tensor) and not isinstance(written, CountedTensor) and written.dim() == 0 and all(is_flag):
        return  # a scalar is written through a mask without computing indices
    for index, flags in zip(indices, is_flag, strict=True):
        if not isinstance(index, CountedTensor):
            _note("blocking copy", f"index of the host in {name}")
        elif flags:
            _note("wait", f"boolean {name}")
    if isinstance(written, Tensor) and not isinstance(written, CountedTensor) and written.dim():
        _note("mix", name)


def _compute(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU; operations with a CUDA kernel only are replaced."""
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
    """Return the keyword arguments of an operation for the CPU: its device, and no pinned memory."""
    options = {key: tree_map(_values, value) for key, value in kwargs.items()}
    if options.get("device") is not None:
        options["device"] = torch.device("cpu")
    if "pin_memory" in options:
        options["pin_memory"] = False
    return options


def _is_view(func: Any) -> bool:
    """Return whether the results of an operation are views of its inputs."""
    infos = [result.alias_info for result in func._schema.returns]
    return any(info is not None and not info.is_write for info in infos)
