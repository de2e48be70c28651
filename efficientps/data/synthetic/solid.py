"""Solids of flat panels: the bodies of vehicles, boxes, kerbside furniture.

A solid's frame is its object's: x right, y up, z front, metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from efficientps.data.synthetic.camera import NEAR, Array, Pose
from efficientps.data.synthetic.canvas import Canvas
from efficientps.data.synthetic.lighting import Rgb


@dataclass
class Decal:
    """A flat polygon on a panel: a window, a lamp, a stripe. ``glow`` > 0 makes it shine by itself."""

    vertices: Array  # [n, 3]
    colour: Rgb
    gloss: float = 0.0
    glow: float = 0.0


@dataclass
class Panel:
    """A flat polygon of a solid's surface with the decals on it; seen from outside only."""

    vertices: Array  # [n, 3]
    colour: Rgb
    gloss: float = 0.0
    decals: list[Decal] = field(default_factory=list)


@dataclass
class Extrusion:
    """A side profile extruded across: each vertex of the outline has its own half width.

    Attributes:
        profile: (z, y, half width) around the outline seen from the side.
        panels: one per edge of the outline (edge i joins vertices i and i + 1), then the right and the left side.
    """

    profile: Sequence[tuple[float, float, float]]
    panels: list[Panel]

    @property
    def right(self) -> Panel:
        """The side at positive x."""
        return self.panels[-2]

    @property
    def left(self) -> Panel:
        """The side at negative x."""
        return self.panels[-1]

    def on_edge(
        self, edge: int, corners: Sequence[tuple[float, float]], colour: Rgb, *, gloss: float = 0.0, glow: float = 0.0
    ) -> None:
        """Put a decal on the panel of an edge; corners are (a, b), a in [-1, 1] across, b in [0, 1] along the edge."""
        (z0, y0, w0), (z1, y1, w1) = self.profile[edge], self.profile[(edge + 1) % len(self.profile)]
        vertices = [(a * (w0 + (w1 - w0) * b), y0 + (y1 - y0) * b, z0 + (z1 - z0) * b) for a, b in corners]
        self.panels[edge].decals.append(Decal(np.array(vertices), colour, gloss, glow))

    def on_sides(
        self, corners: Sequence[tuple[float, float]], colour: Rgb, *, gloss: float = 0.0, sides: Sequence[int] = (1, -1)
    ) -> None:
        """Put a decal on the right (1) and left (-1) side; corners are (z, y)."""
        outline = sorted((y, w) for _, y, w in self.profile)
        places = np.array(corners)
        widths = np.interp(places[:, 1], [y for y, _ in outline], [w for _, w in outline])
        for side in sides:
            vertices = np.stack([side * widths, places[:, 1], places[:, 0]], axis=1)
            (self.right if side > 0 else self.left).decals.append(Decal(vertices, colour, gloss))


def extrude(
    profile: Sequence[tuple[float, float, float]],
    colour: Rgb,
    *,
    gloss: float = 0.1,
    edges: dict[int, tuple[Rgb, float]] | None = None,
) -> Extrusion:
    """Extrude a side profile; ``edges`` gives (colour, gloss) of edges that differ from the body's."""
    edges = edges or {}
    panels = []
    for i, (z0, y0, w0) in enumerate(profile):
        z1, y1, w1 = profile[(i + 1) % len(profile)]
        paint, shine = edges.get(i, (colour, gloss))
        panels.append(Panel(np.array([(-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1)]), paint, shine))
    for side in (1, -1):
        panels.append(Panel(np.array([(side * w, y, z) for z, y, w in profile]), colour, gloss))
    return Extrusion(profile, panels)


def box(
    x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], colour: Rgb, *, gloss: float = 0.0
) -> list[Panel]:
    """Return the panels of an upright box."""
    half = (x[1] - x[0]) / 2
    solid = extrude(
        [(z[1], y[0], half), (z[1], y[1], half), (z[0], y[1], half), (z[0], y[0], half)], colour, gloss=gloss
    )
    for panel in solid.panels:
        panel.vertices[:, 0] += (x[0] + x[1]) / 2
    return solid.panels


@cache
def _circle(sides: int) -> Array:
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    circle = np.stack([np.zeros(sides), np.sin(angle), np.cos(angle)], axis=1)
    circle.setflags(write=False)
    return circle


def disc(x: float, y: float, z: float, radius: float, sides: int = 16) -> Array:
    """Return an upright disc ``[sides, 3]`` in the plane of constant x."""
    return _circle(sides) * radius + (x, y, z)


def point_panel(x: float, y: float, z: float) -> Panel:
    """Return an invisible panel: a point that tells a lone panel beside it where its inside is."""
    return Panel(np.tile(np.array([x, y, z], dtype=float), (3, 1)), (0.0, 0.0, 0.0))


def draw_panels(canvas: Canvas, pose: Pose, panels: Sequence[Panel], owner: int | None) -> None:
    """Draw the panels of one convex-ish solid that face the camera, the farthest first."""
    draw_solids(canvas, pose, [panels], owner)


def draw_solids(canvas: Canvas, pose: Pose, solids: Sequence[Sequence[Panel]], owner: int | None) -> None:
    """Draw solids one after the other, of each the panels that face the camera, the farthest first."""
    panels = [panel for solid in solids for panel in solid]
    counts = np.array([len(panel.vertices) for panel in panels])
    world = pose.to_world(np.concatenate([panel.vertices for panel in panels]))
    local = canvas.camera.to_camera(world)
    if local[:, 2].max() < NEAR or not canvas.may_see(local):
        return
    starts = np.cumsum(counts) - counts
    normals = _normals(world, starts, counts)
    centres = np.add.reduceat(world, starts, axis=0) / counts[:, None]
    sizes = np.array([len(solid) for solid in solids])
    first = np.cumsum(sizes) - sizes
    middles = np.add.reduceat(centres * counts[:, None], first, axis=0) / np.add.reduceat(counts, first)[:, None]
    which = np.repeat(np.arange(len(solids)), sizes)
    normals *= np.where(((centres - middles[which]) * normals).sum(1) < 0, -1.0, 1.0)[:, None]
    eye = np.array([canvas.camera.x, canvas.camera.y, 0.0])
    facing = ((eye - centres) * normals).sum(1) > 1e-9
    distances = np.hypot(centres[:, 0] - eye[0], centres[:, 2])
    for index in np.lexsort((-distances, which)):
        if not facing[index]:
            continue
        panel, distance = panels[index], float(distances[index])
        normal = (float(normals[index, 0]), float(normals[index, 1]), float(normals[index, 2]))
        corners = local[starts[index] : starts[index] + counts[index]]
        canvas.fill(canvas.outline(corners), canvas.light.shade(panel.colour, normal, distance, panel.gloss), owner)
        if panel.decals:
            _draw_decals(canvas, pose, panel, normal, distance, owner)


def _draw_decals(canvas: Canvas, pose: Pose, panel: Panel, normal: Rgb, distance: float, owner: int | None) -> None:
    points = canvas.camera.to_camera(pose.to_world(np.concatenate([decal.vertices for decal in panel.decals])))
    whole = bool(points[:, 2].min() >= NEAR)
    pixels = canvas.camera.project(points) if whole else points
    first = 0
    for decal in panel.decals:
        last = first + len(decal.vertices)
        red, green, blue = canvas.light.shade(decal.colour, normal, distance, decal.gloss)
        if decal.glow:
            own = [255 * channel * decal.glow for channel in decal.colour]
            red, green, blue = (max(a, b) for a, b in zip((red, green, blue), own, strict=True))
        outline = pixels[first:last] if whole else canvas.outline(points[first:last])
        canvas.fill(outline, (red, green, blue), owner)
        first = last


def _normals(world: Array, starts: Array, counts: Array) -> Array:
    """Unit normals ``[n, 3]`` (either sense) of polygons stored one after the other in ``[m, 3]`` (Newell's method)."""
    following = np.arange(1, len(world) + 1)
    following[starts + counts - 1] = starts
    here, there = world, world[following]
    x = (here[:, 1] - there[:, 1]) * (here[:, 2] + there[:, 2])
    y = (here[:, 2] - there[:, 2]) * (here[:, 0] + there[:, 0])
    z = (here[:, 0] - there[:, 0]) * (here[:, 1] + there[:, 1])
    normals: Array = np.add.reduceat(np.stack([x, y, z], axis=1), starts, axis=0)
    normals /= np.maximum(1e-9, np.sqrt((normals**2).sum(1)))[:, None]
    return normals
