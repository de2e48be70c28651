"""The street's frame and the pinhole camera above it.

Letters: x right, y up, z forward in the world (metres; the ground is y = 0); u right, v down on the canvas (pixels).
A street runs along z and bends: the point with lateral offset l and distance s along it lies at x = l + curvature s²/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, cos, sin
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""An array; docstrings give its shape, and its dtype unless it is float64."""

NEAR = 0.5
"""Distance of the near clipping plane, in metres."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera without roll; the horizon is set by shifting the principal point, so verticals stay vertical.

    Attributes:
        width: width of the canvas, pixels.
        height: height of the canvas, pixels.
        focal: focal length, pixels.
        horizon: row of the horizon, pixels.
        x: lateral position in the world, metres.
        y: height above the ground, metres.
        yaw: heading, radians; positive looks to the right.
    """

    width: int
    height: int
    focal: float
    horizon: float
    x: float
    y: float
    yaw: float

    def to_camera(self, points: Array) -> Array:
        """Turn world points ``[n, 3]`` into the camera's frame ``[n, 3]``: right, up (from the lens), depth."""
        c, s = cos(self.yaw), sin(self.yaw)
        turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        turned: Array = (points - (self.x, self.y, 0.0)) @ turn
        return turned

    def project(self, points: Array) -> Array:
        """Project points of the camera's frame ``[n, 3]`` (depth > 0) to pixels ``[n, 2]``."""
        pixels = points[:, :2] * (self.focal / points[:, 2:])
        pixels[:, 0] += self.width / 2
        np.subtract(self.horizon, pixels[:, 1], out=pixels[:, 1])
        return pixels

    def plane_homography(self, origin: Array, across: Array, up: Array) -> Array:
        """Return ``[3, 3]``: (a, b, 1) on the world plane ``origin + a across + b up`` to homogeneous pixels."""
        columns = self.to_camera(np.stack([origin, origin + across, origin + up]))
        plane = np.stack([columns[1] - columns[0], columns[2] - columns[0], columns[0]], axis=1)
        intrinsics = np.array([[self.focal, 0, self.width / 2], [0, -self.focal, self.horizon], [0, 0, 1.0]])
        homography: Array = intrinsics @ plane
        return homography

    def ground(self, first_row: int, step: int = 1) -> tuple[Array, Array, Array]:
        """World coordinates of the ground under the rows from ``first_row`` (below the horizon) on.

        Args:
            first_row: in pixels.
            step: side of the square blocks of pixels that are sampled at their centres.

        Returns:
            x ``[rows, columns]``, z ``[rows, columns]`` and depth ``[rows, 1]`` of the blocks, float32 metres.
        """
        v = np.arange(first_row, self.height, step, dtype=np.float32)[:, None] + step / 2
        u = np.arange(0, self.width, step, dtype=np.float32)[None] + step / 2
        depth = self.focal * self.y / (v - self.horizon)
        right = (u - self.width / 2) * (depth / self.focal)
        c, s = np.float32(cos(self.yaw)), np.float32(sin(self.yaw))
        return np.float32(self.x) + right * c + depth * s, depth * c - right * s, depth


def clip_near(polygon: Array) -> Array:
    """Clip a polygon of the camera's frame ``[n, 3]`` at the near plane (Sutherland-Hodgman); may be empty."""
    inside = polygon[:, 2] >= NEAR
    if inside.all():
        return polygon
    kept: list[Array] = []
    for i, end in enumerate(polygon):
        start = polygon[i - 1]
        if inside[i] != inside[i - 1]:
            kept.append(start + (end - start) * ((NEAR - start[2]) / (end[2] - start[2])))
        if inside[i]:
            kept.append(end)
    return np.array(kept).reshape(-1, 3)


@dataclass(frozen=True)
class Pose:
    """Position and heading of an object: the world position of its origin on the ground, and its heading in radians.

    In the object's own frame x is its right, y up, z its front; heading 0 looks along +z, positive turns right.
    """

    x: float
    z: float
    heading: float = 0.0

    def to_world(self, points: Array) -> Array:
        """Turn points of the object's frame ``[n, 3]`` into world points ``[n, 3]``."""
        c, s = cos(self.heading), sin(self.heading)
        turn = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
        moved: Array = points @ turn + (self.x, 0.0, self.z)
        return moved


def street_pose(curvature: float, lateral: float, along: float, heading: float = 0.0) -> Pose:
    """Return the pose of an object at (lateral, along) of a bending street, its heading relative to the street."""
    return Pose(lateral + curvature * along**2 / 2, along, heading + atan(curvature * along))
