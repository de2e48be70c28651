"""Which stretches of which lane are taken."""

from __future__ import annotations

import numpy as np


class Lanes:
    """Which stretches of which lane are taken, so that nobody stands inside somebody else."""

    def __init__(self) -> None:
        """Start with empty lanes."""
        self._taken: dict[float, list[tuple[float, float]]] = {}

    def take(self, rng: np.random.Generator, lateral: float, length: float, reach: tuple[float, float]) -> float | None:
        """Find a free stretch of a lane and take it.

        Args:
            rng: chooses; near places are likelier.
            lateral: names the lane.
            length: of the stretch, metres.
            reach: where its near end may lie.

        Returns:
            The middle of the stretch, or None if all tries were taken.
        """
        taken = self._taken.setdefault(lateral, [])
        for _ in range(10):
            start: float = reach[0] + (reach[1] - reach[0]) * float(rng.random()) ** 1.5
            if all(start > end + 1.2 or start + length < begin - 1.2 for begin, end in taken):
                taken.append((start, start + length))
                return start + length / 2
        return None

    def block(self, lateral: float, start: float, end: float) -> None:
        """Take a given stretch."""
        self._taken.setdefault(lateral, []).append((start, end))
