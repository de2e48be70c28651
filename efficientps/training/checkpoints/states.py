"""Compare the tensors of a checkpoint with those of a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

NETWORK_PREFIX = "network."
"""Prefix of the network's tensors in the state of a ``PanopticModule``."""


class StateMismatchError(ValueError):
    """A checkpoint is of another network.

    Attributes:
        path: the file of the checkpoint.
    """

    def __init__(self, message: str, path: str | Path = "") -> None:
        """Keep the file."""
        super().__init__(message)
        self.path = path


class StateDifference(NamedTuple):
    """Differences between the tensors of a checkpoint and of a network, each as a sorted list of keys."""

    missing: list[str]  # in the network alone
    unexpected: list[str]  # in the checkpoint alone
    mismatched: list[str]  # in both, of different shapes

    def __bool__(self) -> bool:
        """Return whether there is any difference."""
        return bool(self.missing or self.unexpected or self.mismatched)


def compare_states(expected: Mapping[str, Tensor], found: Mapping[str, Any]) -> StateDifference:
    """Compare the state dict of a network with one from a file.

    >>> import torch
    >>> compare_states({"a": torch.zeros(1), "b": torch.zeros(2)}, {"b": torch.zeros(3), "c": torch.zeros(1)})
    StateDifference(missing=['a'], unexpected=['c'], mismatched=['b'])
    """
    return StateDifference(
        missing=sorted(expected.keys() - found.keys()),
        unexpected=sorted(found.keys() - expected.keys()),
        mismatched=sorted(
            key for key in expected.keys() & found.keys() if _shape(found[key]) != list(expected[key].shape)
        ),
    )


def check_state(expected: Mapping[str, Tensor], found: Mapping[str, Any], *, path: str | Path) -> None:
    """Refuse the tensors of a checkpoint that do not fit a network.

    Args:
        expected: the state dict of the network.
        found: that of the checkpoint.
        path: the file of the checkpoint, for the message.

    Raises:
        StateMismatchError: if keys or shapes differ; the message names the first of them, and the parts of the network.
    """
    difference = compare_states(expected, found)
    if not difference:
        return
    parts = []
    if difference.missing:
        parts.append(f"it lacks {first_of(difference.missing)}")
    if difference.unexpected:
        parts.append(f"it has {first_of(difference.unexpected)} in excess")
    if difference.mismatched:
        key = difference.mismatched[0]
        more = f" (and {len(difference.mismatched) - 1} more)" if len(difference.mismatched) > 1 else ""
        parts.append(f"'{key}' has the shape {_shape(found[key])} instead of {list(expected[key].shape)}{more}")
    what = f"The checkpoint {path} is of another network than this one"
    differing, fitting = _parts(expected, difference)
    if differing and fitting:
        what = f"The checkpoint {path} has another {_and(differing)} than this network"
        what += f", while {_and(fitting)} fit"
    raise StateMismatchError(f"{what}: {', '.join(parts)}.", path=path)


def _parts(expected: Mapping[str, Tensor], difference: StateDifference) -> tuple[list[str], list[str]]:
    """Return the parts of a network, such as its backbone, in which two states differ and in which they agree."""
    keys = [key for keys in difference for key in keys]
    differing = {part_of(key.removeprefix(NETWORK_PREFIX)) for key in keys if key.startswith(NETWORK_PREFIX)}
    every = [part_of(key.removeprefix(NETWORK_PREFIX)) for key in expected if key.startswith(NETWORK_PREFIX)]
    return sorted(differing), [part for part in dict.fromkeys(every) if part not in differing]


def part_of(key: str) -> str:
    """Return the first part of a key: ``"backbone"`` of ``"backbone.stem.weight"``."""
    return key.partition(".")[0]


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _shape(value: object) -> list[int] | None:
    return list(value.shape) if isinstance(value, Tensor) else None


def first_of(keys: list[str]) -> str:
    """Return the first key in quotes, and how many more there are."""
    return f"'{keys[0]}'" if len(keys) == 1 else f"'{keys[0]}' and {len(keys) - 1} more"
