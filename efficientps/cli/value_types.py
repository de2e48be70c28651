"""The type that a key of the configuration is annotated with, and how a sentence calls it."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union

from torch import Tensor

from efficientps.cli.suggestions import argument_types, chosen_class

_LISTS = (list, set, frozenset, Sequence, Iterable)
_PLAIN = {type(None): "null", str: "text", dict: "a block of keys", Any: "any value"}


def annotation_at(keys: Sequence[str], message: str, sections: Mapping[str, type]) -> Any:
    """Return the annotation of a key, None where it is not known; the arguments are those of ``kinds_at``."""
    owner = chosen_class(keys[:-1], message, sections) if len(keys) > 1 else None
    return argument_types(owner).get(keys[-1]) if owner else None


def in_words(annotation: Any) -> str:
    """Return what a type is called in a sentence, with tuples as they are written in YAML.

    >>> in_words(tuple[int, int] | None), in_words(Literal["step", "epoch"]), in_words(list[str])
    ('[int, int] or null', "one of 'step', 'epoch'", 'a list of text')
    """
    parts = list(dict.fromkeys(_parts(annotation)))
    choices = [repr(part) for part in parts if not isinstance(part, _Words)]
    words = [str(part) for part in parts if isinstance(part, _Words)]
    null = [word for word in words if word == "null"]
    words = [f"one of {', '.join(choices)}"] * bool(choices) + [word for word in words if word != "null"]
    return joined([*words, *null], "or")


class _Words(str):
    """Words of a sentence, and no value of a ``Literal``."""


def _parts(annotation: Any) -> Iterable[Any]:
    """Yield the values of a ``Literal``, and the words for each other part of a union."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _parts(argument)
    elif origin is Literal:
        yield from arguments
    elif origin is tuple and Ellipsis not in arguments:
        yield _Words(f"[{', '.join(map(in_words, arguments))}]")
    elif origin in (tuple, *_LISTS):
        yield _Words(f"a list of {in_words(arguments[0])}")
    elif origin is Callable:
        yield from _parts(arguments[-1])
    elif annotation is bool:
        yield from (_Words("true"), _Words("false"))
    elif annotation in _PLAIN:
        yield _Words(_PLAIN[annotation])
    elif annotation is Tensor:  # an optimizer's numbers may be tensors, which no configuration has
        return
    elif isinstance(annotation, type) and issubclass(annotation, os.PathLike):
        yield _Words("a path")
    elif isinstance(annotation, type):
        is_number = annotation in (int, float)
        yield _Words(annotation.__name__ if is_number else f"the name of a {annotation.__name__}")
    elif origin is not None:
        yield from _parts(origin)


def joined(words: Iterable[str], last: str) -> str:
    """Return words as a list of a sentence.

    >>> joined(["a", "b", "c"], "or")
    'a, b or c'
    """
    *before, end = list(words) or [""]
    return f"{', '.join(before)} {last} {end}" if before else end
