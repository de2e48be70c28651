"""Data flow in one call of a network: layers whose output only a norm reads, and weights that are only cast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class DataFlow(TorchDispatchMode):
    """Watches every operation while a network runs; hooks tell which layer or norm an operation belongs to.

    Args:
        layers: layers whose outputs are followed, by name.
        norms: norms that may consume these outputs, by name.
        parameters: parameters whose reads are recorded, by name.

    Attributes:
        inputs: for each layer the input of its first call; a layer that was not called is missing.
    """

    def __init__(
        self, *, layers: Mapping[str, nn.Module], norms: Mapping[str, nn.Module], parameters: Mapping[str, Tensor]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs: dict[str, Tensor] = {}
        self._layers, self._norms = layers, norms
        self._names = {_storage(parameter): name for name, parameter in parameters.items() if parameter.numel()}
        self._inside: list[str] = []  # layers and norms that are running, the innermost last
        self._outputs: dict[int, tuple[str, Tensor]] = {}  # keeps tensors alive, so that Python reuses none of the ids
        self._consumers: dict[int, set[str]] = {}
        self._fed: dict[str, set[str]] = {}  # for each norm, the layers that feed it; "" stands for any other source
        self._readers: dict[str, set[str]] = {}
        self._casts: dict[str, set[torch.dtype | None]] = {}  # dtypes cast to; None stands for any other read

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch every operation that runs inside the context."""
        with ExitStack() as stack:
            for name, module in {**self._layers, **self._norms}.items():
                before, after = self._before(name), self._after(name)
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True, prepend=True).remove)
                stack.callback(module.register_forward_hook(after, always_call=True).remove)
            stack.enter_context(self)
            yield

    def pairs(self) -> dict[str, str]:
        """Return the norm that follows each layer, for the layers with exactly one.

        In such a pair, the norm read every output of the layer, every input of the norm was an output of the layer,
        and no other operation read this output or the layer's weights.
        """
        consumers: dict[str, set[frozenset[str]]] = {}
        for key, (layer, _) in self._outputs.items():
            consumers.setdefault(layer, set()).add(frozenset(self._consumers.get(key, ())))
        found = {}
        for norm, layers in self._fed.items():
            if len(layers) != 1:
                continue
            (layer,) = layers
            if not layer:
                continue
            weights = {self._names.get(_storage(p), "") for p in self._layers[layer].parameters(recurse=False)}
            alone = all(self._readers.get(name, set()) <= {layer} for name in weights)
            if alone and consumers.get(layer) == {frozenset({norm})}:
                found[layer] = norm
        return found

    def only_cast_to(self, dtype: torch.dtype) -> set[str]:
        """Return the parameters that were read, where each read was a cast to ``dtype``."""
        return {name for name, targets in self._casts.items() if targets == {dtype}}

    # ------------------------------------------------------------------------------------------------------ inside

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and record which tensors it reads."""
        result = func(*args, **(kwargs or {}))
        inside = self._inside[-1] if self._inside else ""
        for tensor in _tensors((args, kwargs)):
            if id(tensor) in self._outputs:
                self._consumers.setdefault(id(tensor), set()).add(inside)
            name = self._names.get(_storage(tensor))
            if name is not None:
                self._readers.setdefault(name, set()).add(inside)
                if not _is_view(func):
                    is_cast = func is torch.ops.aten._to_copy.default
                    self._casts.setdefault(name, set()).add(result.dtype if is_cast else None)
        return result

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._inside.append(name)
            tensors = list(_tensors((args, kwargs)))
            if name in self._norms:
                source = self._outputs[id(tensors[0])][0] if tensors and id(tensors[0]) in self._outputs else ""
                self._fed.setdefault(name, set()).add(source)
            elif tensors:
                self.inputs.setdefault(name, tensors[0])

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._inside.pop()
            if name in self._layers and isinstance(output, Tensor):
                self._outputs[id(output)] = (name, output)

        return hook


def _tensors(tree: Any) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_view(func: Any) -> bool:
    """Return whether an operation only returns a view of its input."""
    return bool(func.is_view)
