"""Buildings in perspective along both sides of the street: fronts, end walls and roofs."""

from __future__ import annotations

from math import exp

import numpy as np

from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.facades import Facade, facade_surface
from efficientps.synthetic.streets.labels import BUILDING
from efficientps.synthetic.streets.texture import Surface


def draw_wall_plane(
    canvas: Canvas, start: tuple[float, float], end: tuple[float, float], height: float, surface: Surface, owner: int
) -> None:
    """Draw an upright rectangle on the ground between two points (x, z), the left edge of its surface at ``start``."""
    origin = np.array([start[0], 0.0, start[1]])
    across = np.array([end[0] - start[0], 0.0, end[1] - start[1]])
    length = float(np.hypot(across[0], across[2]))
    if length < 1e-3:
        return
    normal = (across[2] / length, 0.0, -across[0] / length)
    if normal[0] * (canvas.camera.x - start[0]) - normal[2] * start[1] < 0:
        normal = (-normal[0], 0.0, -normal[2])
    columns = surface.code.shape[1]
    share = (np.arange(columns) + 0.5) / columns
    distances = np.hypot(start[0] + share * across[0] - canvas.camera.x, start[1] + share * across[2])
    canvas.textured(origin, across, np.array([0.0, height, 0.0]), surface.lit(canvas.light, normal, distances), owner)


def texture_density(canvas: Canvas, start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Return the useful texture density, in pixels per metre down and across, of a wall between two ground points."""
    eye = canvas.camera
    near, far = max(3.0, start[1]), max(4.0, end[1])
    distance = float(np.sqrt(near * far))
    down = eye.focal / distance
    finest = max(10.0, eye.height / 24)
    pixels = [eye.focal * (x - eye.x) / z for x, z in ((start[0], near), (end[0], far))]
    across = abs(pixels[1] - pixels[0]) / max(1.0, float(np.hypot(end[0] - start[0], end[1] - start[1])))
    return float(np.clip(down, 2.0, finest)), float(np.clip(across * 1.3, 1.0, finest))


def draw_building(
    canvas: Canvas,
    rng: np.random.Generator,
    facade: Facade,
    near: tuple[float, float],
    far: tuple[float, float],
    outward: float,
    *,
    exposed: bool,
) -> None:
    """Draw a building whose front runs from the ground point ``near`` to ``far`` (x, z).

    Args:
        canvas: is drawn on.
        rng: chooses details.
        facade: design.
        near: nearer end of the front.
        far: farther end of the front.
        outward: signed depth of the building away from the street, metres (negative on the left).
        exposed: whether its nearer end wall can be seen.
    """
    corners = np.array([[x, 0.0, z] for x, z in (near, far, (far[0] + outward, far[1]), (near[0] + outward, near[1]))])
    if not canvas.may_see(canvas.camera.to_camera(corners)):
        return
    owner = canvas.stuff(BUILDING)
    if near[1] > 2.0 and exposed:
        reach = (near[0] + outward, near[1])
        gable = facade_surface(rng, facade, abs(outward), texture_density(canvas, near, reach), blind=True)
        draw_wall_plane(canvas, near, reach, facade.height, gable, owner)
    if facade.roof is not None:
        _roof(canvas, facade, near, far, outward, owner)
    length = float(np.hypot(far[0] - near[0], far[1] - near[1]))
    front = facade_surface(rng, facade, length, texture_density(canvas, near, far))
    draw_wall_plane(canvas, near, far, facade.height, front, owner)


def _roof(
    canvas: Canvas, facade: Facade, near: tuple[float, float], far: tuple[float, float], outward: float, owner: int
) -> None:
    """Draw the slope of a pitched roof above the front, the gable's triangle, and a chimney."""
    assert facade.roof is not None
    ridge = facade.height + min(4.0, abs(outward) * 0.34)
    half = outward / 2
    distance = float(np.hypot(near[0] - canvas.camera.x, near[1] + far[1]) / 1.6)
    sign = 1.0 if outward > 0 else -1.0
    light = canvas.light
    if near[1] > 2.0:
        gable = np.array(
            [
                [near[0], facade.height, near[1]],
                [near[0] + outward, facade.height, near[1]],
                [near[0] + half, ridge, near[1]],
            ]
        )
        canvas.polygon(gable, light.shade(facade.colour, (0.0, 0.0, -1.0), distance), owner)
    eaves = facade.height - 0.05
    slope = np.array(
        [
            [near[0] - sign * 0.3, eaves, near[1]],
            [far[0] - sign * 0.3, eaves, far[1]],
            [far[0] + half, ridge, far[1]],
            [near[0] + half, ridge, near[1]],
        ]
    )
    canvas.polygon(slope, light.shade(facade.roof, (-sign * 0.6, 0.8, 0.0), distance), owner)
    for share in (0.25, 0.7):
        x, z = near[0] + (far[0] - near[0]) * share + half, near[1] + (far[1] - near[1]) * share
        if z > 2.0:
            stack = np.array(
                [
                    [x - 0.5, ridge - 0.6, z],
                    [x + 0.5, ridge - 0.6, z],
                    [x + 0.5, ridge + exp(0.1), z],
                    [x - 0.5, ridge + exp(0.1), z],
                ]
            )
            canvas.polygon(stack, light.shade((0.40, 0.26, 0.2), (0.0, 0.0, -1.0), distance), owner)
