"""One sentence for a value of the configuration that the argument parser does not take."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import yaml

from efficientps.cli.parser_messages import Complaint, innermost
from efficientps.cli.presets import suggestion
from efficientps.cli.suggestions import chosen_class, explain_attribute, explain_class, explain_key, kinds_at, near_keys
from efficientps.cli.value_types import annotation_at, in_words, joined

_PLAIN = re.compile("Expected a <class '(float|int)'>")

_MAX_VALUE = 60
"""Characters of a value that a sentence shows."""


class _Place(NamedTuple):
    """Where the parser met an error."""

    keys: list[str]  # the keys down to the place: ["model.network", "backbone"]
    message: str  # of the parser
    sections: Mapping[str, type]  # the class of each section of the configuration
    complaint: Complaint


def _parts(place: _Place) -> list[str]:
    return [part for key in place.keys for part in key.split(".")]


def _unknown_class(place: _Place, name: str) -> str:
    if any(_PLAIN.match(other) for other in place.complaint.others) and not kinds_at(_parts(place), *place[1:3]):
        return _mismatch(place)
    return explain_class(name, *place[:3])


def _unknown_attribute(_: _Place, module: str, name: str) -> str:
    return explain_attribute(module, name)


def _unknown_key(place: _Place, key: str) -> str:
    return explain_key(key, *place[:3])


def _unknown_key_of_group(place: _Place, group: str, key: str) -> str:
    return explain_key(key, [*place.keys, group], *place[1:3])


def _unknown_argument(place: _Place, words: str) -> str:
    key = words.split()[0].partition("=")[0].removeprefix("--")
    near = near_keys(key, *place[:3])
    return f"there is no such argument: {words}{f'; did you mean --{near[0]}?' if near else ''}"


def _missing_file(place: _Place, path: str) -> str:
    return f"the file {path} does not exist{suggestion(path)}"


def _missing_module(place: _Place, module: str) -> str:
    """Say which module is missing: that of a class, or another one which it imports."""
    named = re.search(r"Expected a path but (\S+) either|Got value: Namespace\(class_path='([\w.]+)'", place.message)
    class_path = (named[1] or named[2]) if named else module
    if f"{class_path}.".startswith(f"{module}."):
        return f"there is no module '{module}', neither in the working directory nor among the installed packages"
    return f"'{class_path}' cannot be imported: its module needs '{module}', which is not installed"


def _missing_values(place: _Place, names: str) -> str:
    owner = chosen_class(_parts(place), place.message, place.sections)
    return f"{owner.__name__ if owner else 'it'} needs a value for {names}"


def _no_class(place: _Place, kind: str) -> str:
    """Say what a value lacks that is no class: its name, or the key below which its arguments stand."""
    value = place.complaint.value or ""
    try:
        given = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        given = value
    beside = sorted(given.keys() - {"class_path", "init_args", "dict_kwargs"}) if isinstance(given, dict) else []
    if beside and "class_path" in given:
        return f"beside class_path stands {joined(map(str, beside), 'and')}, which belongs below init_args"
    if isinstance(given, dict) and "class_path" not in given:
        return f"it needs class_path, the name of a {kind}, with its arguments below init_args"
    return f"expected the name of a {kind}, or class_path and init_args, got {_shown(value)}"


def _mismatch(place: _Place, *_: str) -> str:
    """Say which types a value may have, by the annotation of its key, or else by the parser's words."""
    annotation = annotation_at(_parts(place), place.message, place.sections)
    expected = in_words(annotation) if annotation is not None else ""
    if not expected:
        expected = joined(filter(None, map(_type, (place.complaint.reason, *place.complaint.others))), "or")
    expected = f"expected {expected}" if expected else place.complaint.reason
    return f"{expected}, got {_shown(place.complaint.value)}"


def _type(reason: str) -> str:
    """Return the type that a reason of the parser names; nothing for one that names none."""
    if found := re.match(r"Expected a <class '(?:\w+\.)*(\w+)'>", reason):
        return {"NoneType": "null", "bool": "true, false", "str": "text"}.get(found[1], found[1])
    if found := re.match(r"Expected a typing\.Literal\[(.+?)\]", reason):
        return f"one of {found[1]}"
    found = re.match(r"Expected (an? (?:tuple|list) .+)", reason)
    return found[1] if found else ""


def _shown(value: str | None) -> str:
    """Return a value as it is written in YAML, cut to a readable length.

    >>> [_shown(value) for value in ("two", "2.5", "[2]", "None")]
    ["'two'", '2.5', '[2]', 'null']
    """
    if value is None or value == "None":
        return "null"
    if value.startswith(("Namespace(", "{")):
        return "a block of keys"
    value = value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]} ..."
    try:
        is_text = isinstance(yaml.safe_load(value), str)
    except yaml.YAMLError:
        is_text = True
    return f"'{value}'" if is_text else value


_REASONS: tuple[tuple[str, str | Callable[..., str]], ...] = (
    (r"Option '([^']+)' is not accepted", _unknown_key),
    (r"Group '([^']+)' does not accept option '([^']+)'", _unknown_key_of_group),
    (r"does not accept option '([^']+)'", _unknown_key),
    (r"unrecognized arguments: (.+)", _unknown_argument),
    (r"the following arguments are required: ([\w., ]+?)$", _missing_values),
    (r"invalid choice: '([^']+)' \(choose from (.+)\)", "'{}' is not one of {}"),
    (r"module '([\w.]+)' has no attribute '(\w+)'", _unknown_attribute),
    (r"No module named '([\w.]+)'", _missing_module),
    (r"File does not exist: '?([^']+?)'?$", _missing_file),
    (r"Problems parsing config: (.+)", "not valid YAML, {}"),
    (r"Unable to load config ['\"](.+?)['\"]", "expected a block of keys, or the name of a YAML file, got '{}'"),
    (r"Expected '(\S+)' to be a subclass of <class '(\w+)'>", "{} is not a subclass of {}"),
    (r"Import path (\S+) does not correspond to a (.+?)$", "{} is not a {}"),
    (r"Expected a dot import path string: ([^\s.]+)", _unknown_class),
    (r"Not a valid subclass of (\w+)", _no_class),
    (r"argument of type '\w+' is not iterable", "expected the name of a class, got a number"),
    (r"Expected an? .+", _mismatch),
)
"""Patterns of the parser's reasons, those that tell most first, each with its sentence or a function for it."""


def _weight(reason: str) -> int:
    """Return how much a reason tells."""
    ranks = (-rank for rank, (pattern, _) in enumerate(_REASONS) if re.search(pattern, reason))
    return next(ranks, -len(_REASONS))


def explain_configuration(message: str, sections: Mapping[str, type] | None = None) -> str:
    r"""Return one sentence for a message of the argument parser, in which keys, types and values are nested.

    Args:
        message: that of the parser.
        sections: the class of each section of the configuration; with them, near and known names are suggested.

    >>> explain_configuration('Parser key "data.batch_size":\n  Expected a <class \'int\'>. Got value: two')
    "In the configuration, data.batch_size: expected int, got 'two'."
    """
    complaint = innermost(message, _weight)
    keys, reason = list(complaint.keys), complaint.reason
    begin = f"In the configuration, {'.'.join(keys)}: " if keys else "In the configuration: "
    place = _Place(keys, " ".join(message.split()), sections or {}, complaint)
    for pattern, sentence in _REASONS:
        if found := re.search(pattern, reason):
            values = [value.strip() for value in found.groups()]
            if callable(sentence):
                text = sentence(place, *values)
            else:
                text = sentence.format(*values)
            return begin + text if text.endswith((".", "?")) else f"{begin}{text}."
    return begin + (reason if len(reason) < 300 else reason[:300] + " ...")
