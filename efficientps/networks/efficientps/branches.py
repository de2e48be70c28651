"""Build the branches of an instance head, with options that the head takes on their behalf."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

Branch = TypeVar("Branch")


class PassedOn(NamedTuple):
    """An option of the head that sets an option of a branch."""

    name: str  # of the head's option
    branch_option: str
    value: object  # None: not given, the branch keeps its own value


def build_branch(name: str, factory: Callable[..., Branch], *sizes: int, options: Sequence[PassedOn] = ()) -> Branch:
    """Return ``factory(*sizes)`` with the options of the head that are given.

    Args:
        name: name of the head's argument that gives ``factory``, for messages.
        factory: builds the branch; a class, or a ``functools.partial`` of one that sets some of its options.
        sizes: positional arguments of the factory.
        options: options of the head for this branch.

    Raises:
        ValueError: the head and the factory both give a value for an option, and the two differ. A value of the factory
            that is the default of the branch counts as not given: a configuration gives a factory all options.

    >>> build_branch("branch", partial(dict, depth=4), options=[PassedOn("width", "channels", 8)])
    {'depth': 4, 'channels': 8}
    >>> build_branch("branch", partial(dict, channels=4), options=[PassedOn("width", "channels", 8)])
    Traceback (most recent call last):
    ValueError: width is 8 and branch.channels is 4, which are the same option: leave one of them out.
    """
    given = {}
    for option, branch_option, value in options:
        if value is None:
            continue
        if _is_set(factory, branch_option) and (there := _keywords(factory)[branch_option]) != value:
            raise ValueError(
                f"{option} is {value} and {name}.{branch_option} is {there}, which are the same option: leave one of "
                "them out."
            )
        given[branch_option] = value
    return factory(*sizes, **given)


def _is_set(factory: Callable[..., object], option: str) -> bool:
    """Return whether a factory sets an option to something else than the default of the class that it builds.

    A factory that comes from a configuration sets every option, most of them to their defaults.
    """
    keywords = _keywords(factory)
    return option in keywords and not _is_default(keywords[option], _default(_class(factory), option))


def _is_default(value: object, default: object) -> bool:
    if isinstance(value, partial) and isinstance(default, type):
        return _class(value) is default and not any(_is_set(value, option) for option in value.keywords)
    return bool(value == default)


def _keywords(factory: Callable[..., object]) -> dict[str, object]:
    return factory.keywords if isinstance(factory, partial) else {}


def _class(factory: Callable[..., object]) -> object:
    """Return the class that a factory builds; jsonargparse's factories are functions with the class as an argument."""
    if not isinstance(factory, partial):
        return factory
    return next((argument for argument in factory.args if isinstance(argument, type)), factory.func)


def _default(built: object, option: str) -> object:
    """Return the default of an option of a class, ``inspect.Parameter.empty`` if the class does not tell."""
    if not callable(built):
        return inspect.Parameter.empty
    try:
        return inspect.signature(built).parameters[option].default
    except (KeyError, ValueError):
        return inspect.Parameter.empty
