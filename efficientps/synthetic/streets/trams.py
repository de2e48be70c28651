"""Trams, in modules that follow the bend of the street; frame: x right, y up, z front."""

from __future__ import annotations

import numpy as np

from efficientps.synthetic.streets.lighting import Rgb
from efficientps.synthetic.streets.solid import Face, Panel, box, extrude, point_panel
from efficientps.synthetic.streets.vehicles import AMBER, BLACK, GLASS, LAMP, RED, Vehicle, rect


def tram_module(rng: np.random.Generator, livery: tuple[Rgb, Rgb], length: float, *, nose: bool, tail: bool) -> Vehicle:
    """Draw one module of a tram: large windows, a skirt down to the rails, a raked nose at the ends of the train.

    Args:
        rng: chooses small details.
        livery: (upper, lower) paint.
        length: metres.
        nose: whether the front is the front of the train.
        tail: whether the rear is the rear of the train.
    """
    upper, lower = livery
    width, height = 2.4, 3.35
    front, rear, half = length / 2, -length / 2, width / 2
    slim = half - 0.28
    profile = [
        (front, 0.18, slim if nose else half - 0.1),
        (front - 0.02, 1.15, slim if nose else half - 0.1),
        (front - (0.75 if nose else 0.02), 2.85, slim if nose else half - 0.1),
        (front - (1.0 if nose else 0.05), height, half - 0.2),
        (rear + (1.0 if tail else 0.05), height, half - 0.2),
        (rear + (0.75 if tail else 0.02), 2.85, slim if tail else half - 0.1),
        (rear + 0.02, 1.15, slim if tail else half - 0.1),
        (rear, 0.18, slim if tail else half - 0.1),
    ]
    body = extrude(profile, upper, gloss=0.08)
    shoulder = [
        (z, y, half)
        for z, y in (
            (front - (0.9 if nose else 0), 0.18),
            (front - (1.3 if nose else 0), 2.95),
            (rear + (1.3 if tail else 0), 2.95),
            (rear + (0.9 if tail else 0), 0.18),
        )
    ]
    flank = extrude(shoulder, upper, gloss=0.08)
    flank.panels = [flank.panels[1], *flank.panels[-2:]]
    corners = _tram_corners((front, rear), (slim, half), nose=nose, tail=tail, paint=(upper, lower))
    for edge, ends in ((1, nose), (5, tail)):
        if ends:
            body.on_edge(edge, rect(-0.9, 0.9, 0.04, 0.96), GLASS, gloss=0.33)
            low = 0 if edge == 1 else 6
            body.on_edge(low, rect(-1, 1, 0.05, 1.0) if edge == 1 else rect(-1, 1, 0.0, 0.95), lower)
            for side in (-1, 1):
                lamp, glow = (LAMP, 1.0) if edge == 1 else (RED, 0.8)
                body.on_edge(low, rect(side * 0.5, side * 0.9, 0.5, 0.72), lamp, glow=glow)
            body.on_edge(low, rect(-0.25, 0.25, 0.45, 0.85), upper)
            roof_edge = 2 if edge == 1 else 4
            body.on_edge(roof_edge, rect(-0.7, 0.7, 0.15, 0.85), BLACK)
            for k in range(5):
                body.on_edge(roof_edge, rect(-0.5 + k * 0.2, -0.36 + k * 0.2, 0.35, 0.65), AMBER, glow=1.0)
    z0, z1 = rear + (1.1 if tail else 0.12), front - (1.1 if nose else 0.12)
    flank.on_sides(
        [
            (rear + (0.9 if tail else 0), 0.18),
            (front - (0.9 if nose else 0), 0.18),
            (front - (1.05 if nose else 0), 1.15),
            (rear + (1.05 if tail else 0), 1.15),
        ],
        lower,
    )
    flank.on_sides(rect(rear + (0.9 if tail else 0), front - (0.9 if nose else 0), 0.18, 0.34), (0.2, 0.2, 0.21))
    flank.on_sides(rect(z0, z1, 1.2, 2.62), BLACK)
    panes = max(2, round((z1 - z0) / 1.7))
    step = (z1 - z0) / panes
    door = int(rng.integers(panes))
    for k in range(panes):
        z = z0 + k * step
        floor = 0.42 if k == door else 1.28
        flank.on_sides(rect(z + 0.07, z + step - 0.07, floor, 2.54), GLASS, gloss=0.28)
        if k == door:
            flank.on_sides(rect(z + step / 2 - 0.04, z + step / 2 + 0.04, floor, 2.54), lower)
    roof = box((-0.75, 0.75), (height, height + 0.32), (rear + 1.4, front - 1.4), (0.52, 0.53, 0.54))
    return Vehicle([[roof, body.panels, corners, flank.panels]], length, width, height + 0.3)


def _tram_corners(
    ends: tuple[float, float], widths: tuple[float, float], *, nose: bool, tail: bool, paint: tuple[Rgb, Rgb]
) -> list[Panel]:
    """Slanting corners between the narrow face of a tram's end and its full-width flanks, with a corner window."""
    slim, half = widths
    panels = []
    for end, sign, there in ((ends[0], 1, nose), (ends[1], -1, tail)):
        for side in (-1, 1):
            if there:
                face = [(side * slim, 0.18, end), (side * slim, 1.15, end), (side * slim, 2.85, end - sign * 0.75)]
                flank = [
                    (side * half, 0.18, end - sign * 0.9),
                    (side * half, 1.15, end - sign * 1.02),
                    (side * half, 2.95, end - sign * 1.3),
                ]
                panels.append(Panel([face[0], face[1], flank[1], flank[0]], paint[1], 0.08))
                corners = [face[1], face[2], flank[2], flank[1]]
                upper = Panel(corners, paint[0], 0.08)
                middle = [sum(axis) / 4 for axis in zip(*corners, strict=True)]
                window = [tuple(0.85 * a + 0.15 * m for a, m in zip(corner, middle, strict=True)) for corner in corners]
                upper.decals.append(Face([(x, y, z) for x, y, z in window], GLASS, 0.3))
                panels.append(upper)
    panels.append(point_panel(0, 1.5, (ends[0] + ends[1]) / 2))
    return panels


TRAM_LIVERIES: tuple[tuple[Rgb, Rgb], ...] = (
    ((0.94, 0.80, 0.16), (0.93, 0.78, 0.12)),
    ((0.93, 0.88, 0.72), (0.20, 0.45, 0.25)),
    ((0.95, 0.80, 0.15), (0.15, 0.16, 0.20)),
    ((0.93, 0.90, 0.76), (0.92, 0.72, 0.10)),
)
"""(upper, lower) paint of trams: yellows and creams, as in many old towns."""
