"""Occupied stretches of the lanes."""

from __future__ import annotations

import numpy as np


class Lanes:
    """Records the occupied stretches of each lane, so that vehicles do not overlap."""

    def __init__(self) -> None:
        """Start with empty lanes."""
        self._taken: dict[float, list[tuple[float, float]]] = {}

    def take(self, rng: np.random.Generator, lateral: float, length: float, reach: tuple[float, float]) -> float | None:
        """Find a free stretch of a lane and mark it as occupied.

        Args:
            rng: random generator; places near the camera are more likely.
            lateral: lateral position of the lane, metres.
            length: length of the stretch, metres.
            reach: smallest and largest distance of the stretch's near end, metres.

        Returns:
            The distance of the middle of the stretch, or None if every attempt hit an occupied stretch.
        """
        taken = self._taken.setdefault(lateral, [])
        for _ in range(10):
            start: float = reach[0] + (reach[1] - reach[0]) * float(rng.random()) ** 1.5
            if all(start > end + 1.2 or start + length < begin - 1.2 for begin, end in taken):
                taken.append((start, start + length))
                return start + length / 2
        return None

    def block(self, lateral: float, start: float, end: float) -> None:
        """Mark a stretch as occupied."""
        self._taken.setdefault(lateral, []).append((start, end))
