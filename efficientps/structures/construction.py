"""Describe in plain types how an object was constructed; a checkpoint describes its network in this way.

A description is a number, a string, a truth value or ``None``, a list or a tuple of descriptions, or a dictionary:

* ``{"class_path": ..., "init_args": {...}, "kind": "object"}``: an object, with the arguments of its constructor,
* the same with ``"kind": "factory"``: a class, or a ``functools.partial`` of one; ``"args"`` has its positional
  arguments,
* ``{"mapping": {...}}``: a dictionary with strings as keys,
* ``{"unknown": sentence}``: something that no file can describe; the sentence says what.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

Description: TypeAlias = Any
"""A description in plain types; the docstring of this module lists its forms."""

_PACKAGE = __name__.partition(".")[0]


class Constructed:
    """Remembers the arguments of its constructor; a subclass needs to do nothing for it.

    Attributes:
        construction: the description of this object.
    """

    construction: Description

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - not called by its name
        self = super().__new__(cls)
        # Not by setattr, which a module of PyTorch allows after its own constructor only.
        self.__dict__["construction"] = _describe_object(cls, args, kwargs)
        return self


def describe(value: object, name: str = "") -> Description:
    """Return the description of a value.

    Args:
        value: an argument of a constructor.
        name: name of the argument, for the sentence about what cannot be described.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return tuple(describe(item, name) for item in value)
    if isinstance(value, list):
        return [describe(item, name) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: describe(item, name) for key, item in value.items()}}
    if isinstance(value, Constructed):
        return value.construction
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return _described("object", type(value), fields)
    if isinstance(value, partial):
        function, args = value.func, value.args
        if getattr(function, "__module__", "").startswith("jsonargparse"):  # the class is an argument of its factories
            function, args = next(argument for argument in args if isinstance(argument, type)), ()
        return _describe_factory(function, args, value.keywords, name)
    if callable(value) and hasattr(value, "__qualname__"):
        return _describe_factory(value, (), {}, name)
    return {"unknown": f"{_argument(name)} is an object of {type(value).__module__}.{type(value).__qualname__}"}


def unknown_parts(description: Description) -> list[str]:
    """Return the sentences about everything in a description that could not be described."""
    if isinstance(description, dict):
        if isinstance(sentence := description.get("unknown"), str):
            return [sentence]
        return [found for value in description.values() for found in unknown_parts(value)]
    if isinstance(description, list | tuple):
        return [found for value in description for found in unknown_parts(value)]
    return []


class EmptyArgumentError(ValueError):
    """An argument is ``None`` that has to hold something.

    Attributes:
        argument: its name.
    """

    def __init__(self, argument: str) -> None:
        """Say which it is."""
        super().__init__(f"{argument} is empty; give a class or a function that builds it, or leave it out.")
        self.argument = argument


def check_factory(name: str, factory: object) -> None:
    """Check that an argument holds what builds an object, and that no argument by name is missing for it.

    Args:
        name: name of the argument, for messages.
        factory: its value: a class, a function, or a ``functools.partial`` of one.

    Raises:
        EmptyArgumentError: the value is ``None``.
        TypeError: the value is an object that is built already, or needs arguments that are not bound.

    >>> def build(number, *, color): ...
    >>> check_factory("part", build)
    Traceback (most recent call last):
      ...
    TypeError: part is build, which needs color, too: give functools.partial(build, color=...).
    """
    if factory is None:
        raise EmptyArgumentError(name)
    if isinstance(factory, Constructed) or not callable(factory):
        raise TypeError(
            f"{name} is an object of {type(factory).__qualname__}; give what builds it: a class, a function, or a "
            "functools.partial of one."
        )
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # of a function that says nothing of its arguments
        return
    missing = [item.name for item in parameters if item.kind == item.KEYWORD_ONLY and item.default is item.empty]
    if missing:
        made = factory.func if isinstance(factory, partial) else factory
        shown = getattr(made, "__qualname__", type(made).__qualname__)
        values = ", ".join(f"{argument}=..." for argument in missing)
        raise TypeError(
            f"{name} is {shown}, which needs {' and '.join(missing)}, too: give functools.partial({shown}, {values})."
        )


def _describe_object(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    """Describe an object by its class and all arguments of its constructor, defaults included."""
    try:
        bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)  # type: ignore[misc] # this very class
    except (TypeError, ValueError):  # the constructor itself says what is wrong
        return {"unknown": f"an object of {cls.__qualname__} has arguments that its constructor does not name"}
    bound.apply_defaults()
    kinds = {key: parameter.kind for key, parameter in bound.signature.parameters.items()}
    named: dict[str, Any] = {}
    for key, value in list(bound.arguments.items())[1:]:
        if kinds[key] == inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif kinds[key] == inspect.Parameter.VAR_POSITIONAL and value:
            return {"unknown": f"the argument *{key} of {cls.__qualname__} has values without names"}
        elif kinds[key] != inspect.Parameter.VAR_POSITIONAL:
            named[key] = value
    return _described("object", cls, named)


def _describe_factory(
    function: Callable[..., object], args: tuple[object, ...], keywords: Mapping[str, object], name: str
) -> Description:
    """Describe a class, a function or a partial of one.

    The defaults of a class of this package are described, too, so that a later version of the package with other
    defaults builds the same object.
    """
    defaults: dict[str, object] = {}
    if isinstance(function, type) and function.__module__.startswith(f"{_PACKAGE}."):
        parameters = inspect.signature(function).parameters.values()
        only_named = [parameter for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY]
        defaults = {item.name: item.default for item in only_named if item.default is not item.empty}
    return _described("factory", function, defaults | dict(keywords), args, name=name)


def _described(
    kind: str, made: Any, named: Mapping[str, object], args: tuple[object, ...] = (), *, name: str = ""
) -> Description:
    path = _path(made)
    if path is None:
        what = "a lambda" if "<lambda>" in made.__qualname__ else f"{made.__qualname__}, which is no name of a module"
        return {"unknown": f"{_argument(name)} is {what}"}
    described = {key: describe(value, f"{key} of {made.__qualname__}") for key, value in named.items()}
    result = {"class_path": path, "init_args": described, "kind": kind}
    return result | {"args": tuple(describe(value, name) for value in args)} if args else result


def _argument(name: str) -> str:
    return f"the argument {name}" if name else "the class"


def _path(made: Any) -> str | None:
    """Return the shortest dotted path below the top package by which a class or a function is found, or ``None``."""
    module, name = str(made.__module__), str(made.__qualname__)
    if "." in name:
        return None
    pieces = module.split(".")
    for length in range(min(2, len(pieces)), len(pieces) + 1):
        place = ".".join(pieces[:length])
        if getattr(sys.modules.get(place), name, None) is made:
            return f"{place}.{name}"
    return None
