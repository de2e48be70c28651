"""Lorries and buses, built from extruded side profiles; frame: x right, y up, z front."""

from __future__ import annotations

import numpy as np

from efficientps.synthetic.streets.lighting import Rgb, dimmed
from efficientps.synthetic.streets.solid import Extrusion, Face, Panel, box, extrude, point_panel, upright
from efficientps.synthetic.streets.vehicles import AMBER, BLACK, GLASS, LAMP, PLATE, RED, Vehicle, arches, rect, wheels


def truck(rng: np.random.Generator) -> Vehicle:
    """Draw a lorry: a tall cab before a box, a tarpaulin, a tipper or a tank of another colour."""
    kind = str(rng.choice(["box", "tarp", "tipper"], p=[0.55, 0.25, 0.2]))
    cab_paint = ((0.85, 0.85, 0.84), (0.70, 0.10, 0.08), (0.12, 0.25, 0.55), (0.88, 0.45, 0.08), (0.1, 0.36, 0.24))[
        int(rng.integers(5))
    ]
    load: Rgb = {
        "box": ((0.90, 0.90, 0.88), (0.80, 0.82, 0.84), (0.93, 0.89, 0.78))[int(rng.integers(3))],
        "tarp": ((0.16, 0.30, 0.52), (0.14, 0.40, 0.30), (0.60, 0.16, 0.12))[int(rng.integers(3))],
        "tipper": ((0.78, 0.42, 0.08), (0.42, 0.43, 0.44), (0.15, 0.33, 0.2))[int(rng.integers(3))],
    }[kind]
    length, width = rng.uniform(6.8, 9.5), 2.48
    top = rng.uniform(3.2, 3.8) if kind != "tipper" else rng.uniform(2.5, 2.9)
    front, rear, half = length / 2, -length / 2, width / 2
    cab_top, back = rng.uniform(2.65, 3.0), front - 1.9
    cab = extrude(
        [
            (front, 0.45, half - 0.08),
            (front, 1.35, half - 0.06),
            (front - 0.28, cab_top - 0.12, half - 0.14),
            (front - 0.55, cab_top, half - 0.2),
            (back, cab_top, half - 0.16),
            (back, 0.45, half - 0.06),
        ],
        cab_paint,
        gloss=0.1,
    )
    cab.on_edge(1, rect(-0.94, 0.94, 0.10, 0.86), GLASS, gloss=0.35)
    cab.on_edge(0, rect(-0.62, 0.62, 0.32, 0.9), BLACK)
    cab.on_edge(0, rect(-1, 1, 0.0, 0.22), (0.3, 0.3, 0.31))
    cab.on_edge(0, rect(-0.2, 0.2, 0.05, 0.17), PLATE)
    for side in (-1, 1):
        cab.on_edge(0, rect(side * 0.68, side * 0.97, 0.25, 0.45), LAMP, gloss=0.3, glow=0.8)
    cab.on_sides(
        [(front - 0.28, 1.45), (back + 0.5, 1.45), (back + 0.5, cab_top - 0.3), (front - 0.46, cab_top - 0.3)],
        GLASS,
        gloss=0.25,
    )
    cab.on_sides(rect(back + 0.42, back + 0.45, 0.6, cab_top - 0.25), dimmed(cab_paint, 0.5))
    cab.on_sides(rect(back, front, 0.45, 0.62), BLACK)
    deck = 1.0
    cargo = extrude(
        [(back - 0.25, deck, half), (back - 0.25, top, half), (rear, top, half), (rear, deck, half)], load, gloss=0.03
    )
    _dress_cargo(rng, cargo, kind, load, (back - 0.25, rear, deck, top))
    frame = box((-half + 0.3, half - 0.3), (0.55, deck), (rear + 0.1, back + 0.1), BLACK)
    skirt = box((-half + 0.12, half - 0.12), (0.45, 0.85), (rear + 2.9, back - 0.9), (0.24, 0.24, 0.25))
    bumper = box((-half + 0.1, half - 0.1), (0.45, 0.62), (rear, rear + 0.12), (0.3, 0.3, 0.3))
    lamps = Panel(upright((-half + 0.08, half - 0.08), (0.68, 0.95), rear - 0.01), BLACK)
    for side in (-1, 1):
        x0, x1 = side * (half - 0.1), side * (half - 0.55)
        lamps.decals.append(Face(upright((x0, x1), (0.72, 0.92), rear), RED, 0.1, 0.75))
    lamps.decals.append(Face(upright((-0.28, 0.28), (0.7, 0.86), rear), PLATE))
    anchor = point_panel(0, 0.8, front)
    axles = [front - 1.25, rear + 1.3] + ([rear + 2.45] if length > 8 else [])
    under, beside = wheels(width, axles, 0.5, (0.6, 0.6, 0.58))
    under_cab, under_load = under[:2], under[2:]
    load_group = [frame, *under_load, skirt, bumper, [lamps, anchor], cargo.panels, *beside[2:]]
    cab_group = [cab.panels, *beside[:2]]
    return Vehicle([[*load_group], [under_cab[0], under_cab[1], *cab_group]], length, width, max(top, cab_top))


def _dress_cargo(
    rng: np.random.Generator, cargo: Extrusion, kind: str, load: Rgb, limits: tuple[float, float, float, float]
) -> None:
    """Put doors, ribs, ropes or a company's stripe on the load of a lorry."""
    front, rear, deck, top = limits
    dark: Rgb = (load[0] * 0.62, load[1] * 0.62, load[2] * 0.62)
    cargo.on_edge(2, rect(-0.015, 0.015, 0.0, 1.0), BLACK)
    for a in (-0.55, -0.45, 0.45, 0.55):
        cargo.on_edge(2, rect(a - 0.015, a + 0.015, 0.03, 0.97), (0.45, 0.45, 0.46))
    cargo.on_edge(2, rect(-1, 1, 0.0, 0.035), dark)
    for k in range(6):
        cargo.on_edge(2, rect(-1 + k / 3, -1 + k / 3 + 1 / 6, 0.955, 1.0), (0.8, 0.12, 0.1))
    if kind == "box":
        accent = ((0.75, 0.12, 0.1), (0.1, 0.3, 0.62), (0.95, 0.68, 0.1), (0.12, 0.45, 0.25))[int(rng.integers(4))]
        low = rng.uniform(0.2, 0.5)
        span = top - deck
        cargo.on_sides(rect(rear + 0.3, front - 0.3, deck + span * low, deck + span * (low + 0.22)), accent)
        for k in range(5):
            z = rear + (front - rear) * (0.25 + 0.1 * k)
            cargo.on_sides(
                rect(z, z + 0.28, deck + span * (low + 0.06), deck + span * (low + 0.16)), (0.95, 0.95, 0.95)
            )
        cargo.on_edge(2, rect(-0.7, 0.7, 0.3, 0.45), accent)
    else:
        ribs = np.arange(rear + 0.4, front, 0.75 if kind == "tipper" else 1.1)
        for z in ribs:
            cargo.on_sides(rect(float(z), float(z) + 0.09, deck, top), dark)
        cargo.on_sides(rect(rear, front, deck, deck + 0.14), (0.3, 0.3, 0.31))


def bus(rng: np.random.Generator) -> Vehicle:
    """Draw a city bus: one long box of windows with doors on the right and a lit destination above the windscreen."""
    liveries: tuple[tuple[Rgb, Rgb], ...] = (
        ((0.76, 0.09, 0.09), (0.92, 0.90, 0.86)),
        ((0.93, 0.91, 0.86), (0.78, 0.12, 0.12)),
        ((0.10, 0.42, 0.62), (0.90, 0.92, 0.93)),
        ((0.88, 0.90, 0.88), (0.15, 0.50, 0.30)),
        ((0.72, 0.10, 0.14), (0.25, 0.25, 0.27)),
    )
    paint, accent = liveries[int(rng.integers(len(liveries)))]
    length, width, height = rng.uniform(9.5, 12.2), 2.52, rng.uniform(2.95, 3.15)
    front, rear, half = length / 2, -length / 2, width / 2
    body = extrude(
        [
            (front, 0.32, half - 0.06),
            (front, 1.0, half),
            (front - 0.14, 2.55, half - 0.03),
            (front - 0.25, height, half - 0.1),
            (rear + 0.15, height, half - 0.1),
            (rear, 2.5, half - 0.03),
            (rear, 0.32, half - 0.05),
        ],
        paint,
        gloss=0.1,
    )
    body.on_edge(1, rect(-0.96, 0.96, 0.06, 0.98), GLASS, gloss=0.32)
    body.on_edge(1, rect(-0.02, 0.02, 0.06, 0.98), BLACK)
    body.on_edge(2, rect(-0.85, 0.85, 0.12, 0.85), BLACK)
    for k in range(7):
        body.on_edge(2, rect(-0.62 + k * 0.17, -0.5 + k * 0.17, 0.3, 0.68), AMBER, glow=1.0)
    body.on_edge(0, rect(-0.3, 0.3, 0.2, 0.45), PLATE)
    body.on_edge(0, rect(-1, 1, 0.0, 0.15), BLACK)
    body.on_edge(5, rect(-0.85, 0.85, 0.05, 0.42), GLASS, gloss=0.25)
    body.on_edge(5, rect(-0.8, 0.8, 0.55, 0.80), dimmed(paint, 0.55))
    body.on_edge(5, rect(-0.28, 0.28, 0.84, 0.9), PLATE)
    body.on_edge(4, rect(-0.6, 0.6, 0.2, 0.8), BLACK)
    for side in (-1, 1):
        body.on_edge(0, rect(side * 0.62, side * 0.96, 0.35, 0.75), LAMP, gloss=0.3, glow=0.85)
        body.on_edge(5, rect(side * 0.84, side * 0.97, 0.5, 0.8), RED, glow=0.75)
        body.on_edge(5, rect(side * 0.84, side * 0.97, 0.44, 0.5), AMBER, glow=0.7)
    body.on_sides(rect(rear + 0.05, front - 0.04, 0.32, 0.5), BLACK)
    body.on_sides(rect(rear + 0.04, front - 0.04, 0.75, 1.12), accent)
    body.on_sides(rect(rear + 0.25, front - 0.12, 1.22, 2.42), BLACK)
    panes = round(length / 1.45)
    step = (length - 0.5) / panes
    for k in range(panes):
        z = rear + 0.3 + k * step
        body.on_sides(rect(z + 0.05, z + step - 0.05, 1.3, 2.34), GLASS, gloss=0.24)
        body.on_sides(rect(z + 0.05, z + step - 0.05, 1.3, 1.55), (0.16, 0.15, 0.15), gloss=0.12)
    for z in (front - 1.35, front - length * 0.55):
        body.on_sides(rect(z, z + 1.15, 0.4, 2.42), BLACK, sides=(1,))
        for k in range(2):
            body.on_sides(rect(z + 0.06 + k * 0.55, z + 0.54 + k * 0.55, 0.55, 2.34), GLASS, gloss=0.26, sides=(1,))
    axles = [front - 2.6, rear + 2.6]
    arches(body, axles, 0.56, 0.32)
    under, beside = wheels(width, axles, 0.48, (0.5, 0.5, 0.5))
    unit = box((-0.8, 0.8), (height, height + 0.22), (rear + 1.5, rear + 4.2), (0.75, 0.75, 0.74))
    return Vehicle([[*under, unit, body.panels, *beside]], length, width, height + 0.2)
