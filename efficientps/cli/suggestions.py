"""Suggest names near a misspelt class or key of the configuration."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MAX_LISTED = 10
"""Longer lists of known names are left out of a message."""

_KEYS_OF_CLASS = ("class_path", "init_args")
"""Keys of a value that is a class with its arguments."""

_LINKED = ("model.batch_size", "model.categories")
"""Arguments of sections that the program sets."""

_OTHER_KEYS = ("ckpt_path", "config", "seed_everything")
"""Keys of the highest level that are no section."""


def explain_class(name: str, keys: Sequence[str], message: str, sections: Mapping[str, type]) -> str:
    """Say that there is no class of a name for a key, with the near names and the known classes of its kinds.

    Args:
        name: the misspelt name in the configuration.
        keys: the keys down to the place, as the parser names them: ``["model.network", "backbone"]``.
        message: that of the parser, which names the classes chosen above the place.
        sections: the class of each section of the configuration.
    """
    kinds = kinds_at(_parts(keys), message, sections)
    if not kinds:
        return f"there is no class '{name}' of the kind that belongs here"
    sentence = f"'{name}' is no {_or([kind.__name__ for kind in kinds])}"
    near = _near(name, known_classes(*kinds))
    sentence += f"; did you mean {_or(near)}?" if near else "."
    lists = {kind: known_classes(kind) for kind in kinds}
    if listed := [known for kind in kinds if len(lists[kind]) <= MAX_LISTED for known in lists[kind]]:
        modules = [f"those of {kind.__module__}" for kind in kinds if len(lists[kind]) > MAX_LISTED]
        sentence += f" Known: {', '.join([*listed, *modules])}."
    return f"{sentence} A class in a file of your own needs the name of the file: my_file.My{kinds[0].__name__}"


def explain_attribute(module: str, name: str) -> str:
    """Say that a module has no class of a name, with the near ones."""
    near = _near(name, dir(sys.modules.get(module)))
    return f"'{module}' has no class '{name}'{f'; did you mean {_or(near)}?' if near else ''}"


def explain_key(key: str, keys: Sequence[str], message: str, sections: Mapping[str, type]) -> str:
    """Say that there is no key of a name, with the near ones; the arguments are those of ``near_keys``.

    Where none is near, it says where else in the configuration a key of this name is, or which keys there are.
    """
    if key == "class_path":
        return "the keys beside class_path are arguments of the class and belong below init_args"
    sentence = f"there is no such key: '{key}'"
    if near := near_keys(key, keys, message, sections):
        return f"{sentence}; did you mean {_or(near)}?"
    above = _parts(keys)
    owner = chosen_class(above, message, sections) if above else None
    unknown = next((part for part in key.split(".") if part not in (*sections, *parameters(owner))), key)
    others = [kind for kind in kinds_at(above, message, sections) for kind in _built_of(kind) if kind is not owner]
    if with_it := sorted({other.__name__ for other in others if unknown in parameters(other)}) if owner else []:
        return f"{sentence} of {owner.__name__ if owner else ''}; {_or(with_it)} has it"
    if not above and (places := _places(unknown, sections)):
        return f"{sentence}; did you mean {_or(places)}?"
    taken = parameters(owner)[sum(given_values(above, message, sections)) :] if owner else []
    if owner and 0 < len(taken) <= MAX_LISTED:
        return f"{sentence}; {owner.__name__} has {', '.join(taken)}"
    return sentence


def _places(key: str, sections: Mapping[str, type]) -> list[str]:
    """Return the dotted keys that end with a key: arguments of the sections, and of what they are built of."""
    places = [f"{section}.{key}" for section, owner in sections.items() if key in parameters(owner)]
    if places := [place for place in places if place not in _LINKED]:
        return places[:3]
    for section, owner in sections.items():
        for name, annotation in argument_types(owner).items():
            built = [one for kind in _classes(annotation) for one in _built_of(kind)]
            if any(key in parameters(one) for one in built):
                places.append(f"{section}.{name}.{key}")
    return places[:3]


def near_keys(key: str, keys: Sequence[str], message: str, sections: Mapping[str, type]) -> list[str]:
    """Return the keys that are near a misspelt one, the nearest first.

    Args:
        key: the misspelt key in the configuration, with the keys above it or without: ``"model.netwrk"`` or
            ``"netwrk"``.
        keys: the keys above it, as the parser names them.
        message: that of the parser, which names the classes chosen above the place.
        sections: the class of each section of the configuration.
    """
    above = _parts(keys)
    parts = key.split(".")
    for index, part in enumerate(parts):
        names = parameters(chosen_class(above, message, sections)) if above else [*sections, *_OTHER_KEYS]
        names = [*names, *_KEYS_OF_CLASS]
        if part not in names:
            return [".".join([*parts[:index], name]) for name in _near(part, names)]
        above.append(part)
    return []


def kinds_at(keys: Sequence[str], message: str, sections: Mapping[str, type]) -> list[type]:
    """Return the classes that a key is annotated with, or that its factory returns; none where that is not known.

    >>> from efficientps.cli.sections import SECTIONS
    >>> [kind.__name__ for kind in kinds_at(["model", "schedule"], "", SECTIONS)]
    ['Schedule', 'LRScheduler']
    """
    if len(keys) < 2:
        return [sections[key] for key in keys if key in sections]
    owner = chosen_class(keys[:-1], message, sections)
    return list(dict.fromkeys(_classes(argument_types(owner).get(keys[-1])))) if owner else []


def given_values(keys: Sequence[str], message: str, sections: Mapping[str, type]) -> list[int]:
    """Return how many arguments the factories at a key get from the program, and not from the configuration."""
    owner = chosen_class(keys[:-1], message, sections) if len(keys) > 1 else None
    annotation = argument_types(owner).get(keys[-1]) if owner else None
    members = [annotation, *typing.get_args(annotation)]
    return [len(typing.get_args(member)[0]) for member in members if typing.get_origin(member) is Callable]


def chosen_class(keys: Sequence[str], message: str, sections: Mapping[str, type]) -> type | None:
    """Return the class that the configuration has chosen for a key: one that the message names, else its kind."""
    kinds = kinds_at(keys, message, sections)
    paths = re.findall(r"class_path'?[=: ]+'([\w.]+)'", message)
    named = {path.rpartition(".")[2] for path in paths}
    candidates = [one for kind in kinds for one in (kind, *_subclasses(kind))]
    return next((candidate for candidate in candidates if candidate.__name__ in named), next(iter(kinds), None))


def known_classes(*kinds: type) -> list[str]:
    """Return the names of the classes of some kinds that can be built: those of this package and of the kinds' own."""
    # Classes of the same name (transformed or wrapped ones) are listed once.
    return sorted({one.__name__ for kind in kinds for one in _built_of(kind)})


def _built_of(kind: type) -> list[type]:
    """Return the classes of a kind that can be built."""
    packages = {_package(kind), _package(explain_class)}
    classes = [one for one in (kind, *_subclasses(kind)) if _package(one) in packages]
    return [one for one in classes if not inspect.isabstract(one) and one.__name__[0] != "_"]


def _parts(keys: Sequence[str]) -> list[str]:
    return [part for key in keys for part in key.split(".")]


def _package(member: type | Callable[..., object]) -> str:
    return member.__module__.partition(".")[0]


def parameters(owner: type | None) -> list[str]:
    """Return the names of the arguments that a class is built with."""
    if owner is None:
        return []
    try:
        names = inspect.signature(owner).parameters
    except ValueError:  # of a class that is written in C
        return []
    return [name for name in names if name not in ("args", "kwargs")]


def _subclasses(kind: type) -> list[type]:
    found: dict[type, None] = {}
    children: list[type] = type.__subclasses__(kind)
    for child in children:
        found |= {child: None} | dict.fromkeys(_subclasses(child))
    return list(found)


def argument_types(owner: type) -> dict[str, Any]:
    """Return the types that the arguments of a class are annotated with."""
    try:
        # The constructor of a dataclass is written in the module of the class, without the names of its base classes.
        source: Any = owner if dataclasses.is_dataclass(owner) else owner.__init__  # type: ignore[misc]
        return typing.get_type_hints(source)
    except (NameError, TypeError):  # names that are imported for type checkers alone
        return {}


def _classes(annotation: Any) -> Iterable[type]:
    """Find the classes in an annotation: itself, the parts of a union, the items of a list, what a factory returns."""
    if typing.get_origin(annotation) is Callable:
        yield from _classes(typing.get_args(annotation)[-1])
    elif isinstance(annotation, type) and typing.get_origin(annotation) is None:
        if annotation is not type(None) and annotation.__module__ not in ("builtins", "datetime", "torch"):
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
