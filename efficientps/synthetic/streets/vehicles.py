"""Motor vehicles as groups of solids, and the most common one: the car.

A builder draws its vehicle's design from the generator and returns a ``Vehicle``; frame: x right, y up, z front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efficientps.synthetic.streets.camera import Pose
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.lighting import Rgb, dimmed
from efficientps.synthetic.streets.solid import Extrusion, Face, Panel, box, disc, draw_solids, extrude, point_panel

BLACK: Rgb = (0.05, 0.05, 0.055)
GLASS: Rgb = (0.07, 0.085, 0.10)
TYRE: Rgb = (0.06, 0.06, 0.065)
CHROME: Rgb = (0.62, 0.63, 0.65)
RED: Rgb = (0.72, 0.06, 0.06)
LAMP: Rgb = (0.93, 0.92, 0.86)
AMBER: Rgb = (0.98, 0.62, 0.12)
PLATE: Rgb = (0.88, 0.88, 0.84)

CAR_PAINTS: tuple[Rgb, ...] = (
    (0.80, 0.81, 0.82),
    (0.55, 0.57, 0.59),
    (0.90, 0.90, 0.89),
    (0.09, 0.09, 0.10),
    (0.20, 0.21, 0.23),
    (0.34, 0.36, 0.38),
    (0.10, 0.16, 0.36),
    (0.55, 0.07, 0.08),
    (0.16, 0.27, 0.20),
    (0.46, 0.40, 0.33),
    (0.17, 0.36, 0.56),
    (0.62, 0.60, 0.54),
)


@dataclass
class Vehicle:
    """Groups of solids, and the outer measures in metres.

    The solids of a group (each a list of panels) are drawn one after the other; groups are drawn the farthest first.
    """

    groups: list[list[list[Panel]]]
    length: float
    width: float
    height: float

    def draw(self, canvas: Canvas, pose: Pose, owner: int) -> None:
        """Draw the vehicle standing at a pose, in its own shade, and lay dirt and reflections over it."""
        a, b = self.width / 2 - 0.08, self.length / 2 - 0.12
        shade = np.array([(-a, 0.01, -b), (a, 0.01, -b), (a, 0.01, b), (-a, 0.01, b)])
        canvas.polygon(pose.to_world(shade), (14.0, 14.0, 16.0), None)
        middles = [
            np.mean([vertex for panel in group[0] for vertex in panel.vertices], axis=0) for group in self.groups
        ]
        depths = canvas.camera.to_camera(pose.to_world(np.array(middles)))[:, 2]
        for index in np.argsort(-depths):
            draw_solids(canvas, pose, self.groups[index], owner)
        high = np.concatenate([shade, shade + np.array([0.0, self.height, 0.0])])
        canvas.weather(canvas.camera.to_camera(pose.to_world(high)), owner, 0.34)


def rect(a0: float, a1: float, b0: float, b1: float) -> list[tuple[float, float]]:
    """Corners of a rectangle, in the two coordinates of a decal."""
    return [(a0, b0), (a1, b0), (a1, b1), (a0, b1)]


def wheels(width: float, axles: list[float], radius: float, hub: Rgb) -> tuple[list[list[Panel]], list[list[Panel]]]:
    """Return the tyres seen under the body (drawn before it) and the wheels on its sides (drawn after it)."""
    under, beside = [], []
    for axle in axles:
        for side in (-1, 1):
            x = (side * width / 2 - side * 0.22, side * width / 2)
            under.append(box((min(x), max(x)), (0.0, radius), (axle - radius * 0.5, axle + radius * 0.5), TYRE))
            outer = side * (width / 2 + 0.01)
            tyre = Panel(disc(outer, radius, axle, radius), TYRE)
            tyre.decals.append(Face(disc(outer, radius, axle, radius * 0.64), hub, 0.1))
            tyre.decals.append(Face(disc(outer, radius, axle, radius * 0.5), dimmed(hub, 0.62), 0.05))
            tyre.decals.append(Face(disc(outer, radius, axle, radius * 0.2, 8), hub, 0.1))
            # A single panel has no inside; an invisible panel at the middle of the axle defines its outward side.
            beside.append([tyre, point_panel(0, radius, axle)])
    return under, beside


def arches(body: Extrusion, axles: list[float], radius: float, floor: float) -> None:
    """Cut dark wheel arches into the sides of a body whose lower edge is at ``floor``."""
    for axle in axles:
        angle = np.linspace(0, np.pi, 9)
        arch = [
            (axle + radius * float(np.cos(t)), max(floor, radius * 0.86 + radius * float(np.sin(t)) * 0.98))
            for t in angle
        ]
        body.on_sides([(axle + radius, floor), *arch, (axle - radius, floor)], BLACK)


def car(rng: np.random.Generator) -> Vehicle:
    """Draw a passenger car: hatchback, saloon, estate, off-roader or van, in the paints of the streets."""
    kind = str(rng.choice(["hatch", "saloon", "estate", "suv", "van"], p=[0.28, 0.27, 0.2, 0.15, 0.1]))
    length = {"hatch": 3.9, "saloon": 4.6, "estate": 4.6, "suv": 4.5, "van": 4.9}[kind] * rng.uniform(0.96, 1.05)
    height = {"hatch": 1.48, "saloon": 1.43, "estate": 1.47, "suv": 1.72, "van": 1.95}[kind] * rng.uniform(0.97, 1.03)
    width = rng.uniform(1.74, 1.88)
    floor = 0.30 if kind in ("suv", "van") else 0.24
    paint = CAR_PAINTS[int(rng.integers(len(CAR_PAINTS)))]
    front, rear, half = length / 2, -length / 2, width / 2
    belt = height * (0.56 if kind in ("suv", "van") else 0.63)
    bonnet = {"hatch": 0.95, "saloon": 1.25, "estate": 1.2, "suv": 1.15, "van": 0.75}[kind]
    boot = {"hatch": 0.12, "saloon": 0.85, "estate": 0.10, "suv": 0.12, "van": 0.05}[kind]
    cowl, shelf = front - bonnet, rear + boot
    body = extrude(
        [
            (front - 0.03, floor, half - 0.10),
            (front, belt * 0.62, half - 0.05),
            (front - 0.14, belt * 0.84, half - 0.06),
            (cowl, belt + 0.02, half - 0.03),
            (shelf, belt + 0.06, half - 0.03),
            (rear + 0.03, belt + (0.02 if kind == "saloon" else 0.05), half - 0.06),
            (rear, belt * 0.6, half - 0.04),
            (rear + 0.06, floor, half - 0.10),
        ],
        paint,
        gloss=0.14,
    )
    screen = {"hatch": 0.75, "saloon": 0.85, "estate": 0.8, "suv": 0.65, "van": 0.75}[kind]
    tail = {"hatch": 0.42, "saloon": 0.75, "estate": 0.4, "suv": 0.3, "van": 0.12}[kind]
    roof = half - (0.20 if kind in ("suv", "van") else 0.27)
    cabin = extrude(
        [
            (cowl, belt, half - 0.05),
            (cowl - screen, height - 0.05, roof),
            ((cowl + shelf) / 2 - 0.1, height, roof),
            (shelf + tail, height - 0.04, roof),
            (shelf, belt + 0.04, half - 0.05),
        ],
        paint,
        gloss=0.14,
        edges={0: (paint, 0.14), 3: (paint, 0.14)},
    )
    cabin.on_edge(0, rect(-0.93, 0.93, 0.06, 0.93), GLASS, gloss=0.36)
    cabin.on_edge(0, [(-0.9, 0.08), (-0.2, 0.08), (-0.5, 0.6), (-0.9, 0.6)], (0.03, 0.03, 0.035), gloss=0.22)
    cabin.on_edge(3, rect(-0.9, 0.9, 0.12, 0.86), GLASS, gloss=0.26)
    pillar = (cowl + shelf) / 2 - 0.1
    sill, head = belt + 0.07, height - 0.13
    slope = screen * (head - belt) / (height - belt)
    cabin.on_sides(
        [(cowl - 0.14, sill), (pillar + 0.06, sill), (pillar + 0.06, head), (cowl - slope - 0.08, head)],
        GLASS,
        gloss=0.22,
    )
    cabin.on_sides(
        [(pillar - 0.05, sill), (shelf + 0.22, sill), (shelf + tail + 0.05, head), (pillar - 0.05, head)],
        GLASS if kind != "van" or rng.random() < 0.5 else paint,
        gloss=0.20,
    )
    axles = [front - 0.82, rear + 0.82]
    radius = 0.36 if kind in ("suv", "van") else 0.32
    body.on_sides(rect(rear + 0.06, front - 0.05, floor, floor + 0.10), BLACK)
    body.on_sides(
        rect(rear + 0.05, front - 0.12, belt * 0.80, belt * 0.86),
        dimmed(paint, 1.22),
        gloss=0.2,
    )
    body.on_sides(rect(pillar - 0.012, pillar + 0.012, floor + 0.1, belt), dimmed(paint, 0.5))
    body.on_sides(rect(pillar - 0.28, pillar - 0.10, belt * 0.88, belt * 0.93), CHROME)
    arches(body, axles, radius + 0.06, floor)
    lights_on = bool(rng.random() < 0.3)
    braking = 1.0 if rng.random() < 0.35 else 0.0
    for side in (-1, 1):
        body.on_edge(1, rect(side * 0.58, side * 0.96, 0.10, 0.85), LAMP, gloss=0.3, glow=1.0 if lights_on else 0.55)
        inner = 0.62 if kind in ("hatch", "saloon") else 0.74
        body.on_edge(5, rect(side * inner, side * 0.98, 0.08, 0.68), RED, gloss=0.1, glow=1.0 if braking else 0.62)
        body.on_edge(5, rect(side * (inner + 0.04), side * 0.9, 0.4, 0.52), (0.9, 0.75, 0.7), gloss=0.1)
    body.on_edge(1, rect(-0.5, 0.5, 0.15, 0.75), BLACK)
    body.on_edge(1, rect(-0.5, 0.5, 0.4, 0.5), CHROME, gloss=0.2)
    body.on_edge(0, rect(-0.8, 0.8, 0.05, 0.42), BLACK)
    body.on_edge(0, rect(-0.28, 0.28, 0.55, 0.85), PLATE)
    body.on_edge(5, rect(-0.30, 0.30, 0.42, 0.78), PLATE)
    body.on_edge(6, rect(-0.98, 0.98, 0.5, 1.0), BLACK)
    body.on_edge(6, rect(-0.98, 0.98, 0.08, 0.2), dimmed(paint, 0.6))
    under, beside = wheels(width, axles, radius, (0.56, 0.57, 0.58) if rng.random() < 0.75 else (0.22, 0.22, 0.23))
    chassis = box((-half + 0.15, half - 0.15), (0.14, floor + 0.04), (rear + 0.15, front - 0.15), BLACK)
    mirrors = [
        box(
            (s * half - 0.02 if s > 0 else -half - 0.13, s * half + 0.13 if s > 0 else -half + 0.02),
            (belt + 0.02, belt + 0.15),
            (cowl - 0.38, cowl - 0.26),
            paint,
            gloss=0.1,
        )
        for s in (-1, 1)
    ]
    return Vehicle([[chassis, *under, body.panels, *mirrors, cabin.panels, *beside]], length, width, height)
