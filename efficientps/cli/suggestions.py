"""Suggest names near a misspelt class or key of the configuration."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MAX_LISTED = 10
"""Longer lists of known names are left out of a message."""

_OTHER_KEYS = ("ckpt_path", "config", "seed_everything")
"""Keys of the highest level that are no section."""


def explain_class(name: str, keys: Sequence[str], message: str, sections: Mapping[str, type]) -> str:
    """Say that there is no class of a name for a key, with the near names and the known classes of its kind.

    Args:
        name: the misspelt name in the configuration.
        keys: the keys down to the place, as the parser names them: ``["model.network", "backbone"]``.
        message: that of the parser, which names the classes chosen above the place.
        sections: the class of each section of the configuration.
    """
    kind = kind_at([part for key in keys for part in key.split(".")], message, sections)
    if kind is None:
        return f"there is no class '{name}' of the kind that belongs here"
    known = known_classes(kind)
    sentence = f"'{name}' is no {kind.__name__}"
    near = _near(name, known)
    sentence += f"; did you mean {_or(near)}?" if near else "."
    if 0 < len(known) <= MAX_LISTED:
        sentence += f" Known: {', '.join(known)}."
    return f"{sentence} A class in a file of your own needs the name of the file: my_file.My{kind.__name__}"


def explain_key(key: str, keys: Sequence[str], message: str, sections: Mapping[str, type]) -> str:
    """Say that there is no key of a name, with the near ones; the arguments are those of ``near_keys``."""
    near = near_keys(key, keys, message, sections)
    return f"there is no such key: '{key}'{f'; did you mean {_or(near)}?' if near else ''}"


def near_keys(key: str, keys: Sequence[str], message: str, sections: Mapping[str, type]) -> list[str]:
    """Return the keys that are near a misspelt one, the nearest first.

    Args:
        key: the misspelt key in the configuration, with the keys above it or without: ``"model.netwrk"`` or
            ``"netwrk"``.
        keys: the keys above it, as the parser names them.
        message: that of the parser, which names the classes chosen above the place.
        sections: the class of each section of the configuration.
    """
    above = [part for name in keys for part in name.split(".")]
    parts = key.split(".")
    for index, part in enumerate(parts):
        names = parameters(chosen_class(above, message, sections)) if above else [*sections, *_OTHER_KEYS]
        if names and part not in names and part not in ("class_path", "init_args"):
            return [".".join([*parts[:index], name]) for name in _near(part, names)]
        above.append(part)
    return []


def kind_at(keys: Sequence[str], message: str, sections: Mapping[str, type]) -> type | None:
    """Return the class that a key is annotated with, or that its factory returns; ``None`` where that is not known.

    >>> from efficientps.cli.train import SECTIONS
    >>> kind_at(["model", "schedule"], "", SECTIONS).__name__
    'Schedule'
    """
    if len(keys) < 2:
        return sections.get(keys[0]) if keys else None
    owner = chosen_class(keys[:-1], message, sections)
    return next(iter(_classes(_annotations(owner).get(keys[-1]))), None) if owner else None


def chosen_class(keys: Sequence[str], message: str, sections: Mapping[str, type]) -> type | None:
    """Return the class that the configuration has chosen for a key: one that the message names, else its kind."""
    kind = kind_at(keys, message, sections)
    if kind is None:
        return None
    paths = re.findall(r"class_path[= ]'([\w.]+)'", message)
    named = {path.rpartition(".")[2] for path in paths}
    candidates = [kind, *_subclasses(kind)]
    return next((candidate for candidate in candidates if candidate.__name__ in named), kind)


def known_classes(kind: type) -> list[str]:
    """Return the names of the classes of a kind that can be built: those of this package and of the kind's own."""
    packages = {_package(kind), _package(explain_class)}
    classes = [one for one in (kind, *_subclasses(kind)) if _package(one) in packages]
    # Classes of the same name (transformed or wrapped ones) are listed once.
    return sorted({one.__name__ for one in classes if not inspect.isabstract(one) and one.__name__[0] != "_"})


def _package(member: type | Callable[..., object]) -> str:
    return member.__module__.partition(".")[0]


def parameters(owner: type | None) -> list[str]:
    """Return the names of the arguments that a class is built with."""
    if owner is None:
        return []
    return [name for name in inspect.signature(owner).parameters if name not in ("args", "kwargs")]


def _subclasses(kind: type) -> list[type]:
    found: dict[type, None] = {}
    children: list[type] = type.__subclasses__(kind)
    for child in children:
        found |= {child: None} | dict.fromkeys(_subclasses(child))
    return list(found)


def _annotations(owner: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner.__init__)  # type: ignore[misc] # the constructor of this very class
    except (NameError, TypeError):  # names that are imported for type checkers alone
        return {}


def _classes(annotation: Any) -> Iterable[type]:
    """Find the classes in an annotation: itself, the parts of a union, the items of a list, what a factory returns."""
    if typing.get_origin(annotation) is Callable:
        yield from _classes(typing.get_args(annotation)[-1])
    elif isinstance(annotation, type) and typing.get_origin(annotation) is None:
        if annotation is not type(None) and annotation.__module__ != "builtins":
            yield annotation
    else:
        for argument in typing.get_args(annotation):
            yield from _classes(argument)


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are near a misspelt one, the nearest first, whatever their capitals."""
    by_lower = {other.lower(): other for other in known}
    return [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.75)]


def _or(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
