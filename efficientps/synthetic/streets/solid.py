"""Solids of flat panels: the bodies of vehicles, boxes, kerbside furniture.

A solid's frame is its object's: x right, y up, z front, metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import cos, pi, sin

import numpy as np

from efficientps.synthetic.streets.camera import NEAR, Array, Pose
from efficientps.synthetic.streets.canvas import Canvas, to_fixed
from efficientps.synthetic.streets.lighting import Rgb

Vertex = tuple[float, float, float]


@dataclass
class Face:
    """A flat polygon: a side of a solid, or a decal on it, such as a window, a lamp, a stripe.

    Attributes:
        vertices: (x, y, z) of each corner.
        colour: albedo.
        gloss: share of the sky that the face mirrors.
        glow: brightness of the light that the face emits.
    """

    vertices: Sequence[Vertex]
    colour: Rgb
    gloss: float = 0.0
    glow: float = 0.0


@dataclass
class Panel(Face):
    """A flat polygon of a solid's surface with the decals on it; seen from outside only."""

    decals: list[Face] = field(default_factory=list)


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
        self.panels[edge].decals.append(Face(vertices, colour, gloss, glow))

    def on_sides(
        self, corners: Sequence[tuple[float, float]], colour: Rgb, *, gloss: float = 0.0, sides: Sequence[int] = (1, -1)
    ) -> None:
        """Put a decal on the right (1) and left (-1) side; corners are (z, y)."""
        widths = [self._half_width(y) for _, y in corners]
        for side in sides:
            vertices = [(side * width, y, z) for width, (z, y) in zip(widths, corners, strict=True)]
            (self.right if side > 0 else self.left).decals.append(Face(vertices, colour, gloss))

    def _half_width(self, height: float) -> float:
        """Half width of the sides at a height, interpolated between the vertices of the profile."""
        below, above = (-1e9, 0.0), (1e9, 0.0)
        for _, y, width in self.profile:
            if below[0] < y <= height:
                below = (y, width)
            if height <= y < above[0]:
                above = (y, width)
        if below[0] == -1e9 or above[0] == 1e9 or above[0] == below[0]:
            return above[1] if below[0] == -1e9 else below[1]
        return below[1] + (above[1] - below[1]) * (height - below[0]) / (above[0] - below[0])


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
        panels.append(Panel([(-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1)], paint, shine))
    for side in (1, -1):
        panels.append(Panel([(side * w, y, z) for z, y, w in profile], colour, gloss))
    return Extrusion(profile, panels)


def box(
    x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], colour: Rgb, *, gloss: float = 0.0
) -> list[Panel]:
    """Return the panels of an upright box."""
    half = (x[1] - x[0]) / 2
    solid = extrude(
        [(z[1], y[0], half), (z[1], y[1], half), (z[0], y[1], half), (z[0], y[0], half)], colour, gloss=gloss
    )
    middle = (x[0] + x[1]) / 2
    for panel in solid.panels:
        panel.vertices = [(u + middle, v, w) for u, v, w in panel.vertices]
    return solid.panels


@cache
def _circle(sides: int) -> tuple[tuple[float, float], ...]:
    return tuple((sin(2 * pi * k / sides), cos(2 * pi * k / sides)) for k in range(sides))


def disc(x: float, y: float, z: float, radius: float, sides: int = 16) -> list[Vertex]:
    """Return an upright disc in the plane of constant x."""
    return [(x, y + radius * up, z + radius * ahead) for up, ahead in _circle(sides)]


def upright(x: tuple[float, float], y: tuple[float, float], z: float) -> list[Vertex]:
    """Return an upright rectangle across, at one z."""
    return [(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)]


def point_panel(x: float, y: float, z: float) -> Panel:
    """Return an invisible panel at a point; it defines the inside of a solid that has only one other panel."""
    return Panel([(x, y, z)] * 3, (0.0, 0.0, 0.0))


def draw_panels(canvas: Canvas, pose: Pose, panels: Sequence[Panel], owner: int | None) -> None:
    """Draw the panels of one convex-ish solid that face the camera, the farthest first."""
    draw_solids(canvas, pose, [panels], owner)


def draw_solids(canvas: Canvas, pose: Pose, solids: Sequence[Sequence[Panel]], owner: int | None) -> None:
    """Draw solids one after the other, of each the panels that face the camera, the farthest first."""
    panels = [panel for solid in solids for panel in solid]
    counts = np.array([len(panel.vertices) for panel in panels])
    world = pose.to_world(np.array([vertex for panel in panels for vertex in panel.vertices]))
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
    order = [index for index in np.lexsort((-distances, which)) if facing[index]]
    if order:
        faces = [[panels[index], *panels[index].decals] for index in order]
        repeats = [len(group) for group in faces]
        flat = [face for group in faces for face in group]
        _draw_faces(
            canvas, pose, flat, np.repeat(normals[order], repeats, axis=0), np.repeat(distances[order], repeats), owner
        )


def _draw_faces(
    canvas: Canvas, pose: Pose, faces: Sequence[Face], normals: Array, distances: Array, owner: int | None
) -> None:
    """Draw faces in the given order; normals ``[n, 3]`` in the world, distances ``[n]`` from the camera."""
    local = canvas.camera.to_camera(pose.to_world(np.array([vertex for face in faces for vertex in face.vertices])))
    light = canvas.light
    colours = light.shade_all([face.colour for face in faces], normals, distances, [face.gloss for face in faces])
    whole = bool(local[:, 2].min() >= NEAR)
    fixed = to_fixed(canvas.camera.project(local)) if whole else None
    start = 0
    for face, colour in zip(faces, colours, strict=True):
        end = start + len(face.vertices)
        if face.glow:
            colour = [max(shaded, 255 * own * face.glow) for shaded, own in zip(colour, face.colour, strict=True)]
        if fixed is not None:
            canvas.fill_fixed(fixed[start:end], colour, owner)
        else:
            canvas.fill(canvas.outline(local[start:end]), colour, owner)
        start = end


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
