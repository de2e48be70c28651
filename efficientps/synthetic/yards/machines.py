"""The things of a yard as flat drawings: polygons in units of the thing's own size.

x goes to the right from the middle of the thing, y upwards from the ground it stands on.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

Rgb = tuple[float, float, float]
Points = list[tuple[float, float]]

DARK: Rgb = (38, 38, 42)
GLASS: Rgb = (120, 160, 180)
STEEL: Rgb = (130, 134, 140)
MACHINE_PAINTS: tuple[Rgb, ...] = ((236, 178, 24), (232, 120, 30), (205, 60, 40), (60, 110, 170))


class Part(NamedTuple):
    """A polygon and its colour, (r, g, b) within 0..255."""

    outline: Points
    color: Rgb


class Thing(NamedTuple):
    """The drawing of a class: its height in metres, and its parts from back to front, scaled to a height of 1."""

    height: float
    draw: Callable[[np.random.Generator], list[Part]]


def box(left: float, bottom: float, right: float, top: float) -> Points:
    """Return the corners of an upright rectangle."""
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def disc(x: float, y: float, radius: float, corners: int = 14) -> Points:
    """Return the corners of a circle."""
    angles = [2 * pi * corner / corners for corner in range(corners)]
    return [(x + radius * cos(angle), y + radius * sin(angle)) for angle in angles]


def beam(start: tuple[float, float], end: tuple[float, float], width: float) -> Points:
    """Return the corners of a bar between two points."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    scale = width / 2 / max(1e-6, (dx * dx + dy * dy) ** 0.5)
    nx, ny = -dy * scale, dx * scale
    return [
        (start[0] + nx, start[1] + ny),
        (end[0] + nx, end[1] + ny),
        (end[0] - nx, end[1] - ny),
        (start[0] - nx, start[1] - ny),
    ]


def _paint(rng: np.random.Generator) -> Rgb:
    return MACHINE_PAINTS[int(rng.integers(len(MACHINE_PAINTS)))]


def worker(rng: np.random.Generator) -> list[Part]:
    """Draw a person in a helmet and a vest."""
    vest: Rgb = (250, 120, 20) if rng.random() < 0.5 else (190, 230, 40)
    stride = rng.uniform(0.03, 0.12)
    helmet = [(245, 240, 235), (240, 200, 30), (200, 40, 40)][int(rng.integers(3))]
    return [
        Part(beam((-0.02, 0.5), (-stride, 0), 0.1), (50, 60, 90)),
        Part(beam((0.02, 0.5), (stride, 0), 0.1), (60, 70, 100)),
        Part(beam((0.1, 0.8), (0.1 + stride, 0.48), 0.07), vest),
        Part(box(-0.13, 0.46, 0.13, 0.84), vest),
        Part(box(-0.13, 0.58, 0.13, 0.63), (225, 225, 215)),
        Part(disc(0, 0.9, 0.075), (214, 168, 140)),
        Part([(-0.1, 0.92), (0.1, 0.92), (0.06, 1.0), (-0.06, 1.0)], helmet),
    ]


def excavator(rng: np.random.Generator) -> list[Part]:
    """Draw a machine on tracks with a boom, a stick and a bucket."""
    paint = _paint(rng)
    elbow, wrist = (rng.uniform(0.5, 0.8), rng.uniform(0.8, 1.0)), (rng.uniform(0.9, 1.15), rng.uniform(0.25, 0.5))
    return [
        Part(beam((0.2, 0.4), elbow, 0.1), paint),
        Part(beam(elbow, wrist, 0.08), paint),
        Part(
            [
                wrist,
                (wrist[0] + 0.14, wrist[1] - 0.06),
                (wrist[0] + 0.04, wrist[1] - 0.2),
                (wrist[0] - 0.14, wrist[1] - 0.12),
            ],
            DARK,
        ),
        Part([(-0.5, 0.0), (0.45, 0.0), (0.55, 0.1), (0.45, 0.2), (-0.5, 0.2), (-0.6, 0.1)], DARK),
        Part(box(-0.55, 0.2, 0.25, 0.5), paint),
        Part(box(-0.1, 0.5, 0.25, 0.75), paint),
        Part(box(-0.02, 0.53, 0.21, 0.72), GLASS),
    ]


def dump_truck(rng: np.random.Generator) -> list[Part]:
    """Draw a truck with a skip."""
    paint = _paint(rng)
    return [
        Part([(-1.1, 0.35), (0.35, 0.35), (0.45, 0.9), (-1.25, 0.85)], (150, 140, 120)),
        Part([(0.45, 0.25), (1.05, 0.25), (1.05, 0.6), (0.9, 1.0), (0.45, 1.0)], paint),
        Part([(0.6, 0.62), (0.98, 0.62), (0.87, 0.92), (0.6, 0.92)], GLASS),
        Part(box(-1.1, 0.22, 1.05, 0.36), DARK),
        *(Part(disc(x, 0.2, 0.2), DARK) for x in (-0.8, -0.3, 0.75)),
        *(Part(disc(x, 0.2, 0.08), STEEL) for x in (-0.8, -0.3, 0.75)),
    ]


def concrete_mixer(rng: np.random.Generator) -> list[Part]:
    """Draw a truck with a striped drum."""
    paint = _paint(rng)
    return [
        Part([(-1.1, 0.5), (-0.6, 0.35), (0.3, 0.4), (0.4, 0.75), (-0.4, 1.0), (-1.05, 0.8)], (215, 215, 210)),
        Part([(-0.7, 0.38), (-0.5, 0.36), (-0.15, 0.93), (-0.4, 1.0)], paint),
        Part(box(0.5, 0.22, 1.0, 0.85), paint),
        Part(box(0.65, 0.52, 0.98, 0.78), GLASS),
        Part(box(-1.1, 0.2, 1.0, 0.32), DARK),
        *(Part(disc(x, 0.17, 0.17), DARK) for x in (-0.8, -0.4, 0.75)),
    ]


def crane(rng: np.random.Generator) -> list[Part]:
    """Draw a tower crane: a mast, a jib, a load on a rope."""
    load = rng.uniform(0.2, 0.5)
    drop = rng.uniform(0.3, 0.7)
    paint: Rgb = (235, 190, 30) if rng.random() < 0.7 else (200, 50, 45)
    return [
        Part(box(-0.03, 0, 0.03, 0.97), paint),
        Part(box(-0.2, 0.86, 0.62, 0.9), paint),
        Part([(-0.03, 0.9), (0.03, 0.9), (0, 1.0)], paint),
        Part(box(-0.2, 0.78, -0.1, 0.86), STEEL),
        Part(box(load - 0.005, drop, load + 0.005, 0.87), DARK),
        Part(box(load - 0.05, drop - 0.05, load + 0.05, drop), (120, 90, 60)),
        Part(box(-0.1, 0, 0.1, 0.03), (150, 150, 150)),
    ]


def traffic_cone(rng: np.random.Generator) -> list[Part]:
    """Draw a cone with a white band."""
    return [
        Part(box(-0.4, 0, 0.4, 0.1), (60, 40, 30)),
        Part([(-0.28, 0.1), (0.28, 0.1), (0.06, 1), (-0.06, 1)], (250, 90, 20)),
        Part([(-0.19, 0.4), (0.19, 0.4), (0.13, 0.65), (-0.13, 0.65)], (240, 240, 240)),
    ]


def container(rng: np.random.Generator) -> list[Part]:
    """Draw a ribbed container or an office with windows."""
    color = [(50, 90, 140), (140, 60, 50), (80, 120, 80), (200, 200, 195)][int(rng.integers(4))]
    dark: Rgb = (0.75 * color[0], 0.75 * color[1], 0.75 * color[2])
    body = [Part(box(-1.15, 0, 1.15, 1), color)]
    if rng.random() < 0.5:
        return body + [Part(box(x - 0.2, 0.45, x + 0.2, 0.8), GLASS) for x in (-0.75, 0.0, 0.75)]
    return body + [Part(box(x - 0.03, 0.05, x + 0.03, 0.95), dark) for x in np.linspace(-1.0, 1.0, 9)]


def pallet(rng: np.random.Generator) -> list[Part]:
    """Draw a pallet that carries bricks or sacks."""
    goods: Rgb = (176, 84, 60) if rng.random() < 0.5 else (200, 196, 180)
    rows = int(rng.integers(2, 4))
    return [
        Part(box(-0.7, 0, 0.7, 0.16), (150, 112, 70)),
        Part(box(-0.62, 0.05, 0.62, 0.1), (80, 58, 36)),
        Part(box(-0.65, 0.16, 0.65, 1.0), goods),
        *(
            Part(box(-0.65, 0.16 + 0.84 * row / rows - 0.02, 0.65, 0.16 + 0.84 * row / rows + 0.02), DARK)
            for row in range(1, rows)
        ),
    ]


def pipe(rng: np.random.Generator) -> list[Part]:
    """Draw a concrete pipe, seen slightly from its end."""
    return [
        Part([(-1.3, 0.05), (0.9, 0.0), (0.9, 1.0), (-1.3, 0.9)], (168, 166, 160)),
        Part(disc(0.9, 0.5, 0.5), (190, 188, 180)),
        Part(disc(0.9, 0.5, 0.36), (60, 58, 56)),
    ]


def barrel(rng: np.random.Generator) -> list[Part]:
    """Draw a drum with two hoops."""
    color = [(40, 80, 160), (170, 40, 40), (60, 120, 70)][int(rng.integers(3))]
    hoops = [Part(box(-0.36, y, 0.36, y + 0.05), STEEL) for y in (0.3, 0.62)]
    return [Part(box(-0.34, 0, 0.34, 1), color), *hoops]


THINGS: dict[str, Thing] = {
    "worker": Thing(1.8, worker),
    "excavator": Thing(3.4, excavator),
    "dump truck": Thing(3.2, dump_truck),
    "traffic cone": Thing(0.9, traffic_cone),
    "container": Thing(2.7, container),
    "pallet": Thing(1.3, pallet),
    "pipe": Thing(1.2, pipe),
    "crane": Thing(16.0, crane),
    "concrete mixer": Thing(3.4, concrete_mixer),
    "barrel": Thing(1.1, barrel),
}
"""Functions that draw the things of a yard, by the name of the class."""
