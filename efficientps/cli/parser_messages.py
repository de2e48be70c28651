"""The messages of the argument parser, in which keys, classes and the types of a union are nested by indentation.

A message is read as a tree, whose leaves are complaints about one key each. Of the branches of a union, which all
complain, the caller's ``weight`` decides which one tells what is wrong.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

_KEY = re.compile(r'Parser key "([^"]+)": ?')
_CLASS = re.compile(r"Problem with [^:]+: ?|Type \S.*? expects a [\w ]+: ")
_UNION = "Does not validate against any of the Union subtypes"
_VALUE = re.compile(r"\.? ?(?:Got value|Given value): ")


class Complaint(NamedTuple):
    """What is wrong with the value of one key."""

    keys: tuple[str, ...]  # down to the value, as the parser names them: ("model.network", "backbone")
    reason: str  # in the parser's words, on one line
    value: str | None  # what was given, as Python prints it
    others: tuple[str, ...] = ()  # reasons of the other types that the key could have


def innermost(message: str, weight: Callable[[str], int]) -> Complaint:
    r"""Return the complaint of a message that tells most.

    Args:
        message: of the parser.
        weight: how much a reason tells; of those about keys of one depth the greatest is taken.

    >>> innermost('Parser key "a.b":\n  Problem with class:\n    Parser key "c":\n      Bad. Got value: 3', len)
    Complaint(keys=('a.b', 'c'), reason='Bad', value='3', others=())
    """
    return _walk(message.strip("\n").splitlines() or [""], (), weight)


def _walk(lines: Sequence[str], keys: tuple[str, ...], weight: Callable[[str], int]) -> Complaint:
    lines = _dedented(lines)
    first, rest = lines[0], lines[1:]
    if found := _KEY.match(first):
        inner = (*keys, *((found[1],) if keys[-1:] != (found[1],) else ()))
        return _walk([first[found.end() :], *_dedented(rest)], inner, weight)
    if found := _CLASS.match(first):
        return _walk([first[found.end() :], *_dedented(rest)], keys, weight)
    if first.startswith("- "):  # what is wrong with it as the path of a file, and then as a value
        last = max(number for number, line in enumerate(lines) if line.startswith("- "))
        return _walk([lines[last][2:], *lines[last + 1 :]], keys, weight)
    if first.startswith(_UNION):
        return _of_union(rest, keys, weight)
    if first.startswith("Unable to load config"):  # what follows says it again
        rest = []
    text = " ".join(" ".join([first, *rest]).split()).partition(" Subclass types expect one of:")[0]
    reason, *values = _VALUE.split(text)
    return Complaint(keys, reason, values[0] if values else None)


def _of_union(lines: Sequence[str], keys: tuple[str, ...], weight: Callable[[str], int]) -> Complaint:
    """Return the complaint of a union: of its branches, the one about the deepest key, and then the weightiest."""
    branches: list[list[str]] = []
    value = None
    for line in lines:
        if line.startswith("Given value: "):
            value = _VALUE.split(line)[1]
        elif line.startswith("  - "):
            branches.append([line[4:]])
        elif line.startswith("  ") and branches:
            branches[-1].append(line[4:])
    found = [_walk(branch, keys, weight) for branch in branches] or [Complaint(keys, _UNION, value)]
    best = max(found, key=lambda complaint: (len(complaint.keys), weight(complaint.reason)))
    if len(best.keys) > len(keys):
        return best
    others = tuple(complaint.reason for complaint in found if complaint is not best and complaint.keys == keys)
    return best._replace(value=best.value or value, others=(*best.others, *others))


def _dedented(lines: Sequence[str]) -> list[str]:
    """Return lines without their common indentation, and without empty ones before them."""
    kept = textwrap.dedent("\n".join(lines)).strip("\n").splitlines()
    return kept or [""]
