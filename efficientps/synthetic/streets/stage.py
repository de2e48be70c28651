"""The stage: all objects in the street between the two frontages, and the order in which they are painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from efficientps.synthetic.streets.camera import Array, Pose, street_pose
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.ground import Street

Extent = tuple[float, float, float, float]
"""Footprint in the street's frame, metres: smallest and largest lateral position, smallest and largest distance."""


@dataclass
class Prop:
    """An object on the stage: its footprint and the function that draws it."""

    extent: Extent
    draw: Callable[[], None]


@dataclass
class Stage:
    """Collects the props of a scene, and the footprints that cast shadows."""

    canvas: Canvas
    street: Street
    props: list[Prop] = field(default_factory=list)
    shadows: list[tuple[Array, float]] = field(default_factory=list)

    def pose(self, lateral: float, along: float, heading: float = 0.0) -> Pose:
        """Return the pose of a place in the street."""
        return street_pose(self.street.curvature, lateral, along, heading)

    def point(self, lateral: float, along: float) -> tuple[float, float]:
        """Return the ground point (x, z) of a place in the street."""
        pose = self.pose(lateral, along)
        return pose.x, pose.z

    def add(
        self, place: tuple[float, float, float], size: tuple[float, float, float], draw: Callable[[Pose], None]
    ) -> None:
        """Put a prop on the stage.

        Args:
            place: (lateral, along, heading).
            size: (width, length, height) in metres, in the prop's own frame.
            draw: paints it, given its pose.
        """
        lateral, along, heading = place
        width, length, height = size
        pose = self.pose(lateral, along, heading)
        corners = np.array([(-width, 0, -length), (width, 0, -length), (width, 0, length), (-width, 0, length)]) / 2
        footprint = pose.to_world(corners)[:, [0, 2]]
        self.shadows.append((footprint, height))
        c, s = abs(np.cos(heading)), abs(np.sin(heading))
        half_across, half_along = float(width * c + length * s) / 2, float(width * s + length * c) / 2
        extent = (lateral - half_across, lateral + half_across, along - half_along, along + half_along)
        self.props.append(Prop(extent, lambda: draw(pose)))

    def paint(self) -> None:
        """Draw all props in ``painters_order``: hidden ones first."""
        for index in painters_order([prop.extent for prop in self.props]):
            self.props[index].draw()


def painters_order(extents: Sequence[Extent]) -> list[int]:
    """Return the order in which to paint boxes on the ground, seen from the origin along the street.

    A box is painted before another one if it lies completely behind it, or beside it and farther from the camera's
    axis. If neither holds, or the relations form a cycle, the box with the farther centre is painted first.

    >>> painters_order([(-1, 1, 5, 7), (-1, 1, 20, 24), (3, 4, 4, 30)])
    [1, 2, 0]
    """
    if not extents:
        return []
    left, right, near, far = np.array(extents, dtype=float).T
    beyond = near[:, None] >= far[None]
    outside = ((left[:, None] >= right[None]) & (left[None] >= -0.5)) | (
        (right[:, None] <= left[None]) & (right[None] <= 0.5)
    )
    alongside = ~beyond & ~beyond.T
    before = beyond | (alongside & outside)
    np.fill_diagonal(before, False)
    distance = np.hypot((left + right) / 2, (near + far) / 2)
    waiting = before.sum(0).astype(float)
    order: list[int] = []
    done = np.zeros(len(distance), bool)
    for _ in range(len(distance)):
        ready = ~done & (waiting <= 0)
        candidates = ready if ready.any() else ~done
        index = int(np.argmax(np.where(candidates, distance, -1.0)))
        order.append(index)
        done[index] = True
        waiting -= before[index]
    return order


def fork(rng: np.random.Generator) -> np.random.Generator:
    """Return a separate random generator for one object, so that drawing it does not change later objects."""
    return np.random.default_rng(int(rng.integers(2**32)))
