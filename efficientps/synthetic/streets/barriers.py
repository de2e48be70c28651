"""Walls and fences along the street, drawn in upright panels."""

from __future__ import annotations

import numpy as np

from efficientps.synthetic.streets.buildings import draw_wall_plane, texture_density
from efficientps.synthetic.streets.camera import Array
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.facades import BRICKS
from efficientps.synthetic.streets.labels import FENCE, WALL
from efficientps.synthetic.streets.lighting import Rgb
from efficientps.synthetic.streets.texture import Surface, noise_patch

WALL_STYLES = ("concrete", "stone", "brick")
FENCE_STYLES = ("railing", "mesh", "planks", "barrier")


def wall_surface(
    rng: np.random.Generator, style: str, colour: Rgb, size: tuple[float, float], density: tuple[float, float]
) -> Surface:
    """Paint a wall flat: concrete slabs, rubble or brick under a coping.

    Args:
        rng: chooses stains.
        style: one of ``WALL_STYLES``.
        colour: albedo.
        size: (height, width), metres.
        density: pixels per metre, down and across.
    """
    height, width = size
    down, across = density
    h, w = max(4, round(height * down)), max(4, round(width * across))
    x = ((np.arange(w, dtype=np.float32) + 0.5) / across)[None]
    y = (height - (np.arange(h, dtype=np.float32) + 0.5) / down)[:, None]
    stain = noise_patch(rng, (h, w), max(1.0, down / 14), 1.1) - 0.5
    rough = noise_patch(rng, (h, w), max(1.0, down / 45), 0.5) - 0.5
    grain = 1 + stain * 0.45 + rough * (0.55 if style == "stone" else 0.18)
    if style == "concrete":
        grain *= 1 - 0.38 * ((np.mod(x, np.float32(2.4)) < 0.06) | (np.abs(y - height * 0.5) < 0.02))
        grain *= 1 - 0.25 * np.clip(noise_patch(rng, (1, w), max(1.0, down / 20), 0.3) - 0.55, 0, 1) * 3 * (y / height)
    else:
        course = 0.34 if style == "stone" else 0.15
        row = np.floor(y / course)
        shift = np.sin(row * 12.9898) * 437.58
        step = course * (1.9 if style == "stone" else 2.6)
        cell = np.floor((x + shift) / step)
        tone = np.sin(cell * 78.233 + row * 37.719) * 43758.547
        grain = grain * (0.82 + 0.36 * (tone - np.floor(tone)))
        joint = (np.mod(y, np.float32(course)) < 0.03) | (np.mod(x + shift, np.float32(step)) < 0.03)
        grain = grain * (1 - 0.30 * joint * min(1.0, down / 18))
    grain = grain * (1 - 0.35 * np.exp(-y / 0.25))
    code = np.zeros((h, w), np.uint8)
    code[(y > height - 0.14)[:, 0]] = 1
    albedo = np.array([colour, (0.58, 0.57, 0.54)], np.float32)
    return Surface(code, grain.astype(np.float32), albedo, np.zeros(2, np.float32))


def sample_wall_colour(rng: np.random.Generator, style: str) -> Rgb:
    """Draw the albedo of a wall of this style."""
    tint = float(rng.uniform(0.85, 1.15))
    if style == "brick":
        red, green, blue = BRICKS[int(rng.integers(len(BRICKS)))]
    elif style == "stone":
        red, green, blue = (0.47, 0.43, 0.37)
    else:
        red, green, blue = (0.55, 0.54, 0.51)
    return red * tint, green * tint, blue * tint


def draw_wall(
    canvas: Canvas,
    rng: np.random.Generator,
    style: str,
    colour: Rgb,
    near: tuple[float, float],
    far: tuple[float, float],
    height: float,
) -> None:
    """Draw a wall between two ground points (x, z)."""
    length = float(np.hypot(far[0] - near[0], far[1] - near[1]))
    distance = float(np.hypot(near[0] + far[0] - 2 * canvas.camera.x, max(2.0, near[1]) + far[1])) / 2
    surface = wall_surface(rng, style, colour, (height, length), texture_density(canvas, near, far))
    draw_wall_plane(canvas, near, far, height, surface, canvas.stuff(WALL))
    if canvas.camera.y > height:
        thick = 0.3 if near[0] > canvas.camera.x else -0.3
        top = np.array(
            [
                [near[0], height, near[1]],
                [far[0], height, far[1]],
                [far[0] + thick, height, far[1]],
                [near[0] + thick, height, near[1]],
            ]
        )
        canvas.polygon(top, canvas.light.shade((0.6, 0.59, 0.56), (0.0, 1.0, 0.0), distance), canvas.stuff(WALL))


def draw_fence(
    canvas: Canvas, style: str, colour: Rgb, near: tuple[float, float], far: tuple[float, float], height: float
) -> None:
    """Draw a fence between two ground points (x, z): posts, rails and bars, the gaps between them seen through.

    The whole outline belongs to the fence, as annotators outline it.
    """
    owner = canvas.stuff(FENCE)
    start, end = np.array([near[0], 0.0, near[1]]), np.array([far[0], 0.0, far[1]])
    span = end - start
    length = float(np.hypot(span[0], span[2]))
    eye = np.array([canvas.camera.x, 0.0, 0.0])
    distance = float(np.linalg.norm((start + end) / 2 - eye))
    normal = (1.0 if start[0] < canvas.camera.x else -1.0, 0.0, -0.2)
    light = canvas.light

    def panel(a: float, b: float, low: float, high: float) -> Array:
        return np.array(
            [
                start + span * a + [0, low, 0],
                start + span * b + [0, low, 0],
                start + span * b + [0, high, 0],
                start + span * a + [0, high, 0],
            ]
        )

    solid = style in ("planks", "barrier")
    body = light.shade(colour, normal, distance)
    dark = light.shade((colour[0] * 0.55, colour[1] * 0.55, colour[2] * 0.55), normal, distance)
    canvas.polygon(panel(0, 1, 0, height), body if style == "planks" else None, owner)
    if not solid:
        _veil(canvas, panel(0, 1, 0.05, height), body, 0.42 if style == "mesh" else 0.18)
    pitch = {"railing": 0.15, "mesh": 0.4, "planks": 0.16, "barrier": 1.0}[style]
    # Bars with a spacing of about a pixel would alias.
    pitch = max(
        pitch,
        2.2
        * distance
        * length
        / max(1.0, canvas.camera.focal * abs(span[0] * 0.9) + canvas.camera.focal * abs(span[2]) * 0.3),
    )
    bars = max(1, int(length / pitch))
    if style == "barrier":
        for k in range(bars):
            stripe = light.shade((0.78, 0.10, 0.09) if k % 2 else (0.90, 0.89, 0.86), normal, distance)
            canvas.polygon(panel(k / bars, (k + 1) / bars, height * 0.62, height), stripe, None)
            canvas.polygon(panel(k / bars, (k + 1) / bars, height * 0.18, height * 0.38), stripe, None)
    else:
        half = (0.42 if style == "planks" else 0.16) / bars
        for k in range(bars):
            centre = (k + 0.5) / bars
            if style == "planks":
                canvas.polygon(panel(centre + half, centre + half * 1.2, 0.03, height), dark, None)
            elif style == "railing":
                canvas.polygon(panel(centre - half, centre + half, 0.08, height), body, None)
            else:
                slant = min(1.0, centre + 0.5 * height / length)
                cross = np.array([start + span * centre, start + span * slant + [0, height, 0]])
                canvas.line(cross, 0.012, body)
                canvas.line(cross * [1, -1, 1] + [0, height, 0], 0.012, body)
    if style in ("railing", "mesh"):
        for level in (0.10, height):
            canvas.polygon(panel(0, 1, level - 0.06, level), body, None)
    posts = max(1, round(length / 2.5))
    for k in range(posts + 1):
        width = 0.05 / length
        canvas.polygon(
            panel(max(0, k / posts - width), min(1, k / posts + width), 0, height + 0.06),
            dark if solid else body,
            owner,
        )


def _veil(canvas: Canvas, world: Array, colour: Rgb, strength: float) -> None:
    """Blend a colour over a polygon, which stands for bars that are too fine to be drawn one by one."""
    outline = canvas.outline(canvas.camera.to_camera(world))
    window = canvas.window(outline)
    if window is None:
        return
    left, top, right, bottom = window
    behind = canvas.image[top:bottom, left:right].copy()
    canvas.fill(outline, colour, None)
    front = canvas.image[top:bottom, left:right]
    front[:] = (front * strength + behind * (1 - strength)).astype(np.uint8)
