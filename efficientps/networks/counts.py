"""Refuse counts and probabilities that no network can be built from."""

from __future__ import annotations

from collections.abc import Mapping


def check_counts(owner: str, counts: Mapping[str, int], *, least: int = 1) -> None:
    """Refuse counts that are too small.

    Args:
        owner: the part of the network that the counts belong to, for the message.
        counts: each count by the name of its argument.
        least: the lowest count that is accepted.

    Raises:
        ValueError: a count is below ``least``.

    >>> check_counts("detector", {"num_queries": 100, "num_heads": 0})
    Traceback (most recent call last):
    ValueError: num_heads of the detector is 0; it must be at least 1.
    """
    for name, count in counts.items():
        if count < least:
            raise ValueError(f"{name} of the {owner} is {count}; it must be at least {least}.")


def check_probabilities(probabilities: Mapping[str, float]) -> None:
    """Refuse probabilities, given by the names of their arguments, that are not above 0 and below 1.

    Raises:
        ValueError: one is not above 0 and below 1.
    """
    for name, probability in probabilities.items():
        if not 0 < probability < 1:
            raise ValueError(f"{name} is {probability}; it must be above 0 and below 1.")
