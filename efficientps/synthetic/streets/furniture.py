"""Street furniture: lamp posts, traffic lights, traffic signs, and objects of no evaluated class."""

from __future__ import annotations

import numpy as np

from efficientps.synthetic.streets.camera import Array, Pose
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.labels import DYNAMIC, POLE, STATIC, TRAFFIC_LIGHT, TRAFFIC_SIGN
from efficientps.synthetic.streets.lighting import Rgb, dimmed
from efficientps.synthetic.streets.solid import Face, Panel, box, disc, draw_panels, extrude, point_panel, upright

STEEL: tuple[Rgb, ...] = ((0.46, 0.47, 0.48), (0.34, 0.35, 0.36), (0.22, 0.27, 0.25), (0.58, 0.58, 0.57))
WHITE: Rgb = (0.93, 0.93, 0.91)
RED: Rgb = (0.78, 0.07, 0.08)
BLUE: Rgb = (0.06, 0.24, 0.62)
YELLOW: Rgb = (0.95, 0.78, 0.10)
BLACK: Rgb = (0.06, 0.06, 0.06)


def _post(canvas: Canvas, pose: Pose, height: float, radius: float, colour: Rgb) -> None:
    base = canvas.camera.to_camera(np.array([[pose.x, 0.0, pose.z], [pose.x, height, pose.z]]))
    owner = canvas.stuff(POLE)
    canvas.blob(np.array([[*base[0], radius], [*base[1], radius * 0.75]]), colour, owner)
    canvas.blob(
        np.array([[*base[0], radius * 1.25], [base[0][0], base[0][1] + 0.5, base[0][2], radius * 1.2]]), colour, owner
    )


def _local(canvas: Canvas, pose: Pose, points: Array) -> Array:
    return canvas.camera.to_camera(pose.to_world(points))


def draw_lamp_post(canvas: Canvas, rng: np.random.Generator, pose: Pose, height: float) -> None:
    """Draw a street lamp whose arm reaches to the front of its pose."""
    colour = STEEL[int(rng.integers(len(STEEL)))]
    radius = rng.uniform(0.14, 0.20)
    _post(canvas, pose, height, radius, colour)
    reach = rng.uniform(1.2, 2.4)
    arm = _local(canvas, pose, np.array([[0, height, 0], [0, height + 0.35, reach]]))
    owner = canvas.stuff(POLE)
    canvas.blob(np.concatenate([arm, [[0.08], [0.06]]], axis=1), colour, owner)
    lamp = _local(canvas, pose, np.array([[0, height + 0.34, reach], [0, height + 0.36, reach + 0.55]]))
    canvas.blob(np.concatenate([lamp, [[0.10], [0.09]]], axis=1), (0.75, 0.75, 0.72), owner)


def draw_bollard(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """Draw a waist-high post that keeps cars off the pavement."""
    _post(canvas, pose, 0.95, 0.09, (0.75, 0.1, 0.1) if rng.random() < 0.3 else STEEL[int(rng.integers(len(STEEL)))])


def _signal_head(canvas: Canvas, pose: Pose, centre: tuple[float, float, float], lit: int, size: float) -> None:
    """Draw one traffic light with three lamps, facing backwards (to the camera), around a point of the pose's frame."""
    x, y, z = centre
    owner = canvas.stuff(TRAFFIC_LIGHT)
    half, tall = 0.19 * size, 0.54 * size
    head = Panel(upright((x - half * 1.35, x + half * 1.35), (y - tall * 1.12, y + tall * 1.12), z), (0.90, 0.90, 0.88))
    head.decals.append(Face(upright((x - half, x + half), (y - tall, y + tall), z), BLACK))
    colours: tuple[Rgb, Rgb, Rgb] = ((1.0, 0.10, 0.08), (1.0, 0.68, 0.10), (0.12, 0.95, 0.55))
    for k, colour in enumerate(colours):
        middle = y + tall * 0.64 * (1 - k)
        # A disc lies across the street; a lamp faces along it.
        ring = [(x + u, v, z) for _, v, u in disc(0.0, middle, 0.0, half * 0.78, 12)]
        head.decals.append(Face(ring, colour, glow=1.0) if k == lit else Face(ring, dimmed(colour, 0.16)))
    sides = box((x - half, x + half), (y - tall, y + tall), (z + 0.02, z + 0.22), BLACK)
    draw_panels(canvas, pose, sides, owner)
    anchor = point_panel(x, y, z + 1.0)
    draw_panels(canvas, pose, [head, anchor], owner)


def draw_traffic_light(canvas: Canvas, rng: np.random.Generator, pose: Pose, *, overhang: float = 0.0) -> None:
    """Draw a traffic light on its post; ``overhang`` metres of arm to the left carry a second one over the road."""
    colour = STEEL[int(rng.integers(len(STEEL)))]
    lit = int(rng.integers(3)) if rng.random() < 0.3 else int(rng.integers(2)) * 2
    height = 5.4 if overhang else 3.3
    _post(canvas, pose, height, 0.15, colour)
    size = float(rng.uniform(1.2, 1.5))
    if overhang:
        arm = _local(canvas, pose, np.array([[0, height - 0.1, 0], [-overhang, height + 0.1, 0]]))
        canvas.blob(np.concatenate([arm, [[0.09], [0.07]]], axis=1), colour, canvas.stuff(POLE))
        _signal_head(canvas, pose, (-overhang, height - 0.25, -0.15), lit, size)
    _signal_head(canvas, pose, (0.0, 2.75, -0.16), lit, size)


def _polygon(kind: str, radius: float) -> Array:
    """Outline ``[n, 2]`` of a sign of this shape around the origin."""
    count, turn = {
        "disc": (20, 0.0),
        "triangle": (3, 90.0),
        "yield": (3, 270.0),
        "square": (4, 45.0),
        "octagon": (8, 22.5),
        "diamond": (4, 0.0),
    }[kind]
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + np.deg2rad(turn)
    stretch = 1.28 if count == 3 else 1.18 if kind == "square" else 1.0
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius * stretch


_SIGNS: tuple[tuple[str, Rgb, Rgb], ...] = (
    ("disc", RED, WHITE),
    ("disc", BLUE, BLUE),
    ("disc", RED, BLUE),
    ("triangle", RED, WHITE),
    ("yield", RED, WHITE),
    ("square", WHITE, BLUE),
    ("octagon", WHITE, RED),
    ("diamond", WHITE, YELLOW),
    ("disc", RED, RED),
)
"""(shape, border, field)."""


def _sign_face(canvas: Canvas, rng: np.random.Generator, pose: Pose, y: float, radius: float) -> None:
    kind, border, field = _SIGNS[int(rng.integers(len(_SIGNS)))]
    owner = canvas.stuff(TRAFFIC_SIGN)

    def face(outline: Array, scale: float, colour: Rgb, offset: tuple[float, float] = (0.0, 0.0)) -> None:
        points = np.stack(
            [outline[:, 0] * scale + offset[0], outline[:, 1] * scale + y + offset[1], np.full(len(outline), -0.14)],
            axis=1,
        )
        flat = _local(canvas, pose, points)
        shade = canvas.light.shade(colour, (0.0, 0.15, -0.95), float(flat[:, 2].mean()), 0.08)
        canvas.fill(canvas.outline(flat), shade, owner)

    outline = _polygon(kind, radius)
    face(outline, 1.06, (0.75, 0.75, 0.74))
    face(outline, 1.0, border)
    face(outline, 0.76, field)
    glyph = WHITE if field in (BLUE, RED) else BLACK
    bar = np.array([(-0.11, -0.30), (0.11, -0.30), (0.11, 0.30), (-0.11, 0.30)]) * radius * 1.2
    if field == RED and kind == "disc":
        face(bar[:, ::-1] * [1.7, 1.0], 1.0, WHITE)
    else:
        face(
            bar * (0.75 if kind in ("triangle", "yield") else 1.0),
            1.0,
            glyph,
            (float(rng.uniform(-0.1, 0.1)) * radius, 0.0),
        )
        if rng.random() < 0.5 and kind in ("disc", "square"):
            face(bar[:, ::-1] * 0.8, 1.0, glyph, (0.08 * radius, 0.18 * radius))


def draw_traffic_sign(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """Draw one or two traffic signs on a post, facing backwards (to the camera)."""
    colour = STEEL[int(rng.integers(len(STEEL)))]
    radius = float(rng.uniform(0.42, 0.60))
    height = float(rng.uniform(2.3, 2.9))
    double = rng.random() < 0.35
    _post(canvas, pose, height + (radius * 2.1 if double else radius * 0.8), 0.09, colour)
    _sign_face(canvas, rng, pose, height, radius)
    if double:
        _sign_face(canvas, rng, pose, height + radius * 2.15, radius)


def draw_direction_board(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """Draw a large yellow, blue or white direction sign with lines of writing on two posts."""
    owner = canvas.stuff(TRAFFIC_SIGN)
    field, glyph = ((YELLOW, BLACK), (BLUE, WHITE), (WHITE, BLACK))[int(rng.integers(3))]
    width, tall, bottom = rng.uniform(1.9, 2.8), rng.uniform(1.1, 1.8), rng.uniform(1.9, 2.5)
    for x in (-width * 0.35, width * 0.35):
        post = Pose(
            float(pose.to_world(np.array([[x, 0, 0]]))[0, 0]), float(pose.to_world(np.array([[x, 0, 0]]))[0, 2])
        )
        _post(canvas, post, bottom + tall, 0.10, STEEL[0])

    def rect(x0: float, x1: float, y0: float, y1: float, colour: Rgb) -> None:
        flat = _local(canvas, pose, np.array([(x0, y0, -0.12), (x1, y0, -0.12), (x1, y1, -0.12), (x0, y1, -0.12)]))
        canvas.fill(
            canvas.outline(flat), canvas.light.shade(colour, (0.0, 0.1, -0.95), float(flat[:, 2].mean()), 0.06), owner
        )

    rect(-width / 2, width / 2, bottom, bottom + tall, glyph)
    rect(-width / 2 + 0.06, width / 2 - 0.06, bottom + 0.06, bottom + tall - 0.06, field)
    lines = int(rng.integers(2, 4))
    for k in range(lines):
        level = bottom + tall * (0.16 + 0.75 * k / lines)
        rect(-width * 0.38, width * float(rng.uniform(-0.02, 0.22)), level, level + 0.17, glyph)
        rect(width * 0.32, width * 0.38, level - 0.03, level + 0.22, glyph)


def draw_clutter(canvas: Canvas, rng: np.random.Generator, pose: Pose) -> None:
    """Draw an object of no evaluated class (void): a bin, a bench, a planter, a kiosk, bags or a pushchair."""
    kind = str(rng.choice(["bin", "bench", "planter", "column", "bags", "pram"]))
    static, dynamic = canvas.stuff(STATIC), canvas.stuff(DYNAMIC)
    if kind == "bin":
        tone: Rgb = ((0.12, 0.22, 0.14), (0.2, 0.2, 0.21), (0.75, 0.45, 0.1))[int(rng.integers(3))]
        body = extrude(
            [(0.32, 0.08, 0.26), (0.38, 1.0, 0.31), (-0.38, 1.05, 0.31), (-0.32, 0.08, 0.26)], tone, gloss=0.05
        )
        draw_panels(canvas, pose, body.panels, static)
    elif kind == "bench":
        for panels in (
            box((-0.8, 0.8), (0.40, 0.48), (-0.25, 0.25), (0.42, 0.28, 0.16)),
            box((-0.8, 0.8), (0.55, 0.95), (-0.28, -0.22), (0.42, 0.28, 0.16)),
            box((-0.7, -0.62), (0.0, 0.4), (-0.2, 0.2), (0.2, 0.2, 0.2)),
            box((0.62, 0.7), (0.0, 0.4), (-0.2, 0.2), (0.2, 0.2, 0.2)),
        ):
            draw_panels(canvas, pose, panels, static)
    elif kind == "planter":
        draw_panels(canvas, pose, box((-0.6, 0.6), (0.0, 0.6), (-0.6, 0.6), (0.55, 0.53, 0.5)), static)
    elif kind == "column":
        base = canvas.camera.to_camera(np.array([[pose.x, 0.0, pose.z]]))[0]
        for low, high, tone in (
            (0.0, 3.0, (0.5, 0.48, 0.44)),
            (0.7, 1.6, (0.8, 0.65, 0.25)),
            (1.7, 2.6, (0.35, 0.5, 0.65)),
            (2.9, 3.2, (0.2, 0.3, 0.25)),
        ):
            ring = [[base[0] + s * 0.45, base[1] + y, base[2], 0.05] for s in (-1, 1) for y in (low, high)]
            canvas.blob(np.array(ring), tone, static)
    elif kind == "bags":
        for dx in (-0.25, 0.1, 0.35):
            ball = canvas.camera.to_camera(np.array([[pose.x + dx, 0.25, pose.z]]))[0]
            canvas.blob(np.array([[*ball, 0.26]]), (0.10, 0.10, 0.13), dynamic)
    else:
        draw_panels(canvas, pose, box((-0.26, 0.26), (0.45, 0.8), (-0.4, 0.4), (0.2, 0.2, 0.3)), dynamic)
        draw_panels(canvas, pose, box((-0.28, 0.28), (0.75, 1.1), (0.0, 0.42), (0.25, 0.25, 0.38)), dynamic)
        for z in (-0.35, 0.35):
            wheel = _local(canvas, pose, np.array([[-0.25, 0.14, z], [0.25, 0.14, z]]))
            canvas.blob(np.concatenate([wheel, [[0.14], [0.14]]], axis=1), BLACK, dynamic)
