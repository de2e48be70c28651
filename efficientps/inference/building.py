"""Build an object from its description in an untrusted file, from permitted classes and within limits of size.

Everything is checked before anything is imported. Classes come from the networks of this package, from a list of
layers of PyTorch, and from modules that the caller trusts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from efficientps.structures.construction import Description

_ROOMS = ("efficientps.backbones", "efficientps.layers", "efficientps.networks")
"""Where the classes of this package lie that a file may name: parts of networks, and dataclasses with options."""

_LAYERS = frozenset(
    ["torch.nn." + name for name in (
        "BatchNorm2d", "ELU", "GELU", "GroupNorm", "Hardswish", "Identity", "InstanceNorm2d", "LayerNorm", "LeakyReLU",
        "Mish", "PReLU", "ReLU", "ReLU6", "SiLU", "SyncBatchNorm", "Tanh")]
    + ["torchvision.ops.FrozenBatchNorm2d"]
)  # fmt: skip
"""Classes of other packages that any file may name: norms and activations."""

_DEEPEST = 20
_MOST_VALUES = 20_000
_LONGEST_TEXT = 1000
_LARGEST_NUMBER = 1 << 24
_SHOWN = 200
_MORE_NUMBERS = 10_000_000


class ModelFileError(ValueError):
    """A checkpoint's description of itself cannot be used."""


class UntrustedClassError(ModelFileError):
    """A checkpoint names a class that is neither of this package nor of a trusted module.

    Attributes:
        module: the top name of the class's module, which ``trust`` would take.
    """

    def __init__(self, message: str, module: str = "") -> None:
        """Keep the module."""
        super().__init__(message)
        self.module = module


def excerpt(value: object) -> str:
    """Return a value of a file as one short line of printable characters."""
    text = str(value)[: _SHOWN + 1] if not isinstance(value, int) or abs(value) < 1 << 62 else "a number of many digits"
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."


def check_description(description: object) -> None:
    """Check that a description is of plain types and of a reasonable size.

    Raises:
        ValueError: it is not; the message says in half a sentence why.
    """
    left = [_MOST_VALUES]
    if not isinstance(description, dict):
        raise ValueError("it does not name a network.")
    _check(description, _DEEPEST, left)


def _check(value: object, deeper: int, left: list[int]) -> None:
    left[0] -= 1
    if deeper == 0:
        raise ValueError(f"its arguments are nested more than {_DEEPEST} deep.")
    if left[0] < 0:
        raise ValueError(f"it has more than {_MOST_VALUES} values.")
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            raise ValueError(f"it has a text of {len(value)} characters; {_LONGEST_TEXT} are the most.")
    elif isinstance(value, int | float):
        if abs(value) > _LARGEST_NUMBER and value not in (float("inf"), float("-inf")):
            raise ValueError(f"it has the number {excerpt(value)}; {_LARGEST_NUMBER} is the largest.")
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, deeper - 1, left)
    elif isinstance(value, dict):
        class_path = value.get("class_path")
        if isinstance(class_path, str) and (len(class_path) > _LONGEST_TEXT or "." not in class_path):
            raise ValueError(f"{excerpt(class_path)} is no path of a class.")
        is_class = isinstance(class_path, str) and isinstance(value.get("init_args"), dict)
        if not (is_class or isinstance(value.get("mapping"), dict) or isinstance(value.get("unknown"), str)):
            raise ValueError("a part of it is neither a class with arguments nor a mapping.")
        if not isinstance(value.get("args", ()), list | tuple):
            raise ValueError("the positional arguments of a class are no list.")
        _check(value.get("args", ()), deeper - 1, left)
        for key, item in (value["init_args"] if is_class else value.get("mapping", {})).items():
            if not isinstance(key, str) or len(key) > _LONGEST_TEXT:
                raise ValueError(f"a key is no text of at most {_LONGEST_TEXT} characters.")
            _check(item, deeper - 1, left)
    elif value is not None:
        raise ValueError(f"it has a value of the type {type(value).__name__}.")


def build(description: Description, *, tensors: int, path: str | Path, trust: Sequence[str]) -> object:
    """Build what a checked description describes, on the CPU.

    Args:
        description: one that ``check_description`` has accepted.
        tensors: number of tensors that it will be given: it must not have many more.
        path: path of the file; its size limits what is built.
        trust: modules or packages whose classes it may name.

    Raises:
        UntrustedClassError: it names a class of another module; nothing was imported.
        ModelFileError: there is no such class, or it cannot be built.
    """
    for class_path in _class_paths(description):
        _check_trusted(class_path, path, trust)
    where = f"The checkpoint {path} describes a network that cannot be built"
    try:
        with _no_more_than(tensors, Path(path).stat().st_size):
            return _made(description, trust)
    except ModelFileError as error:
        raise ModelFileError(f"{where}: {error}") from None
    except Exception as error:  # the constructors of any class may raise anything about wrong arguments
        raise ModelFileError(f"{where}: {excerpt(error) or type(error).__name__}") from error


def _class_paths(description: Description) -> Iterator[str]:
    if isinstance(description, dict):
        if "class_path" in description:
            yield description["class_path"]
        for part in ("args", "init_args", "mapping"):
            values = description.get(part, ())
            for value in values.values() if isinstance(values, dict) else values:
                yield from _class_paths(value)
    elif isinstance(description, list | tuple):
        for value in description:
            yield from _class_paths(value)


def _check_trusted(class_path: str, path: str | Path, trust: Sequence[str]) -> None:
    if class_path in _LAYERS or _is_below(class_path, (*_ROOMS, *trust)):
        return
    top = excerpt(class_path.partition(".")[0])
    raise UntrustedClassError(
        f"The checkpoint {path} names the class {excerpt(class_path)}, which is not of this package, so nothing was "
        f"imported; if you know and trust the module, say so with trust=('{top}',).",
        module=top,
    )


def _is_below(name: str, packages: Sequence[str]) -> bool:
    return any(name.startswith(f"{package}.") or name == package for package in packages)


def _made(description: Description, trust: Sequence[str]) -> Any:
    if isinstance(description, list | tuple):
        return type(description)(_made(item, trust) for item in description)
    if not isinstance(description, dict):
        return description
    if "mapping" in description:
        return {key: _made(item, trust) for key, item in description["mapping"].items()}
    made = _imported(description["class_path"], trust)
    args = [_made(item, trust) for item in description.get("args", ())]
    named = {key: _made(item, trust) for key, item in description["init_args"].items()}
    if description.get("kind") == "object":
        return made(*args, **named)
    return partial(made, *args, **named) if args or named else made


def _imported(class_path: str, trust: Sequence[str]) -> Any:
    """Import a class that may be named; what its module has merely imported from elsewhere is not taken."""
    module, _, name = class_path.rpartition(".")
    if class_path in _LAYERS:
        return getattr(import_module(module), name)
    made = getattr(import_module(module), name, None)
    origin = str(getattr(made, "__module__", ""))
    if made is None or not callable(made):
        raise ModelFileError(f"there is no class {excerpt(class_path)}.")
    if _is_below(origin, trust):
        return made
    is_part = isinstance(made, type) and (issubclass(made, nn.Module) or dataclasses.is_dataclass(made))
    if not is_part or not _is_below(origin, _ROOMS):
        raise ModelFileError(f"{excerpt(class_path)} is no part of a network.")
    return made


@contextmanager
def _no_more_than(tensors: int, size: int) -> Iterator[None]:
    """End the building of what has many more parameters and buffers than a file, before they take much memory.

    What the tensors of the file say of their sizes is not believed: several may share one place in the file, or may
    claim to go on beyond it. Some more are allowed, because a network may make parts first that it then drops.

    Args:
        tensors: number of tensors in the file.
        size: size of the file in bytes; a number takes two or more.
    """
    left, numbers = 3 * tensors + 1000, size // 2 + _MORE_NUMBERS

    def count(_module: object, _name: object, tensor: Tensor | None) -> None:
        nonlocal left, numbers
        left -= 1
        numbers -= 0 if tensor is None else tensor.numel()
        if min(left, numbers) < 0:
            raise ModelFileError(f"it has many more parameters than the {tensors} tensors of the file.")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
