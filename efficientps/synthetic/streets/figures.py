"""People, built from convex hulls of spheres ("blobs"), on foot and in the saddle.

Frame of every figure: x right, y up, z front, metres, the origin on the ground below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from efficientps.synthetic.streets.camera import NEAR, Array, Pose
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.lighting import Rgb

SKINS: tuple[Rgb, ...] = ((0.88, 0.68, 0.56), (0.80, 0.58, 0.45), (0.62, 0.43, 0.31), (0.42, 0.28, 0.20))
HAIRS: tuple[Rgb, ...] = ((0.10, 0.08, 0.07), (0.28, 0.18, 0.11), (0.52, 0.38, 0.20), (0.50, 0.49, 0.48))
COATS: tuple[Rgb, ...] = (
    (0.10, 0.10, 0.12),
    (0.16, 0.19, 0.30),
    (0.30, 0.30, 0.32),
    (0.55, 0.12, 0.12),
    (0.82, 0.80, 0.76),
    (0.26, 0.34, 0.24),
    (0.48, 0.38, 0.26),
    (0.20, 0.42, 0.62),
    (0.74, 0.55, 0.18),
    (0.60, 0.34, 0.46),
)
TROUSERS: tuple[Rgb, ...] = (
    (0.10, 0.11, 0.16),
    (0.18, 0.24, 0.38),
    (0.13, 0.13, 0.13),
    (0.42, 0.38, 0.30),
    (0.3, 0.31, 0.33),
)

Sphere = tuple[float, float, float, float]


@dataclass
class Part:
    """The convex hull of spheres (x, y, z, radius), or a spoked wheel if ``ring`` gives its tyre's radius."""

    spheres: Sequence[Sphere]
    colour: Rgb
    gloss: float = 0.0
    ring: float = 0.0
    rider: bool = False


def draw_parts(canvas: Canvas, pose: Pose, parts: Sequence[Part], owner: int, rider: int | None = None) -> None:
    """Draw parts from the farthest to the nearest; those marked as the rider's belong to the owner ``rider``."""
    counts = [len(part.spheres) for part in parts]
    spheres = np.array([sphere for part in parts for sphere in part.spheres])
    points = canvas.camera.to_camera(pose.to_world(spheres[:, :3]))
    if points[:, 2].min() < NEAR or not canvas.may_see(points):
        return
    spheres = np.concatenate([points, spheres[:, 3:]], axis=1)
    blobs = canvas.blobs(spheres, counts, [part.colour for part in parts], [part.gloss for part in parts])
    starts: npt.NDArray[np.int64] = np.cumsum(counts) - np.array(counts)
    depths = np.add.reduceat(points[:, 2], starts) / counts
    for index in np.argsort(-depths, kind="stable"):
        part = parts[index]
        whose = rider if part.rider and rider is not None else owner
        if part.ring:
            _wheel(canvas, spheres[starts[index] : starts[index] + counts[index]], part, whose)
        else:
            canvas.draw_blob(blobs[index], whose)
    canvas.weather(points, owner, 0.5)
    if rider is not None:
        canvas.weather(points, rider, 0.5)


def _wheel(canvas: Canvas, spheres: Array, part: Part, owner: int) -> None:
    """Draw a tyre with spokes; the whole disc belongs to the vehicle, as annotators outline it."""
    rim = canvas.camera.project(spheres[1:, :3])
    canvas.fill(rim, None, owner)
    distance = float(spheres[0, 2])
    tyre = canvas.light.shade(part.colour, (0.0, 0.0, -1.0), distance)
    steel = canvas.light.shade((0.45, 0.45, 0.46), (0.0, 0.0, -1.0), distance)
    scale = canvas.camera.focal / distance
    hub = canvas.camera.project(spheres[:1, :3])[0]
    if scale * part.ring > 0.5:
        for k in range(0, len(rim), 3):
            _stroke(canvas, np.stack([hub, rim[k]]), 0.006 * scale, steel, owner)
    closed = np.concatenate([rim, rim[:1]])
    _stroke(canvas, closed, part.ring * scale, tyre, owner)


def _stroke(canvas: Canvas, points: Array, radius: float, colour: Rgb, owner: int) -> None:
    radius = max(radius, 0.35)
    for start, end in pairwise(points):
        along = end - start
        across = np.array([-along[1], along[0]]) * (radius / max(1e-6, float(np.hypot(*along))))
        canvas.fill(np.stack([start + across, end + across, end - across, start - across]), colour, owner, convex=True)


def pick(rng: np.random.Generator, colours: Sequence[Rgb]) -> Rgb:
    """Pick one of the colours and vary its brightness a little."""
    red, green, blue = colours[int(rng.integers(len(colours)))]
    tint = rng.uniform(0.85, 1.15)
    return min(1.0, red * tint), min(1.0, green * tint), min(1.0, blue * tint)


def person(rng: np.random.Generator, *, standing: bool | None = None) -> tuple[list[Part], float]:
    """Draw somebody on foot in mid-stride or standing; returns the parts and the height in metres."""
    height = float(np.clip(rng.normal(1.72, 0.09), 1.5, 1.95)) if rng.random() > 0.1 else float(rng.uniform(1.05, 1.4))
    k = height / 1.75
    build = rng.uniform(0.92, 1.18)
    still = bool(rng.random() < 0.3) if standing is None else standing
    swing = 0.05 if still else float(rng.uniform(0.18, 0.34)) * (1 if rng.random() < 0.5 else -1)
    coat, trousers, skin, hair = pick(rng, COATS), pick(rng, TROUSERS), pick(rng, SKINS), pick(rng, HAIRS)
    long_coat, skirt, sleeves = rng.random() < 0.3, rng.random() < 0.12, rng.random() < 0.75
    shoe = (0.08, 0.07, 0.07) if rng.random() < 0.7 else (0.75, 0.74, 0.72)
    parts: list[Part] = []
    for side in (-1, 1):
        step = swing * side
        hip, knee = (side * 0.09 * k, 0.92 * k, 0.0), (side * 0.10 * k, 0.50 * k, (step * 0.62 + 0.04) * k)
        ankle = (side * 0.10 * k, 0.09 * k, (step * 1.15 - max(0.0, -step) * 0.25) * k)
        lift = max(0.0, -step) * 0.2 * k
        bare = skirt
        leg = skin if bare else trousers
        parts.append(Part([(*hip, 0.095 * k * build), (*knee, 0.068 * k)], trousers))
        parts.append(Part([(*knee, 0.066 * k), (ankle[0], ankle[1] + lift, ankle[2], 0.048 * k)], leg))
        toe = (ankle[0], 0.045 * k + lift * 0.6, ankle[2] + 0.15 * k, 0.036 * k)
        parts.append(Part([(ankle[0], 0.055 * k + lift, ankle[2], 0.045 * k), toe], shoe))
        elbow = (side * 0.25 * k * build, 1.14 * k, -step * 0.45 * k)
        hand = (side * 0.25 * k * build, 0.88 * k, (-step * 0.8 + 0.08) * k)
        parts.append(Part([(side * 0.20 * k * build, 1.40 * k, 0, 0.062 * k), (*elbow, 0.052 * k)], coat))
        parts.append(Part([(*elbow, 0.048 * k), (*hand, 0.038 * k)], coat if sleeves else skin))
        parts.append(Part([(hand[0], hand[1] - 0.05 * k, hand[2], 0.042 * k)], skin))
    hem = 0.62 if long_coat or skirt else 0.93
    flare = 0.135 if long_coat or skirt else 0.115
    parts.append(
        Part(
            [(s * 0.155 * k * build, 1.40 * k, 0.0, 0.08 * k) for s in (-1, 1)]
            + [(s * 0.10 * k * build, hem * k, 0.0, flare * k) for s in (-1, 1)],
            coat,
        )
    )
    parts.append(Part([(0, 1.47 * k, 0.0, 0.05 * k), (0, 1.56 * k, 0.02 * k, 0.05 * k)], skin))
    parts.append(Part([(0, 1.63 * k, 0.02 * k, 0.098 * k), (0, 1.57 * k, 0.035 * k, 0.075 * k)], skin))
    parts.append(Part([(0, 1.67 * k, -0.025 * k, 0.1 * k), (0, 1.62 * k, -0.05 * k, 0.085 * k)], hair))
    extra = rng.random()
    if extra < 0.22:
        parts.append(
            Part([(0.0, 1.34 * k, -0.19 * k, 0.11 * k), (0.0, 1.08 * k, -0.2 * k, 0.12 * k)], pick(rng, COATS))
        )
    elif extra < 0.42:
        parts.append(
            Part(
                [(0.30 * k, 0.72 * k, z, 0.05 * k) for z in (-0.1, 0.12)]
                + [(0.30 * k, 0.56 * k, z, 0.06 * k) for z in (-0.12, 0.14)],
                pick(rng, COATS),
            )
        )
    return parts, height


def seated(
    rng: np.random.Generator,
    *,
    hip: tuple[float, float],
    shoulder: tuple[float, float],
    hands: tuple[float, float, float],
    feet: Sequence[tuple[float, float]],
    knee: tuple[float, float],
    coat: Rgb,
    trousers: Rgb,
    helmet: Rgb | None,
    full_face: bool,
) -> list[Part]:
    """Parts of a rider; pairs are (y, z), ``hands`` is (x, y, z), ``feet`` gives the left and the right foot."""
    skin, hair = pick(rng, SKINS), pick(rng, HAIRS)
    parts = []
    for side, foot in zip((-1, 1), feet, strict=True):
        lift = foot[0] - min(feet)[0]
        bend = (side * 0.15, knee[0] + lift * 0.55, knee[1])
        parts.append(Part([(side * 0.10, hip[0], hip[1], 0.105), (*bend, 0.075)], trousers, rider=True))
        parts.append(Part([(*bend, 0.072), (side * 0.14, foot[0] + 0.06, foot[1] - 0.06, 0.05)], trousers, rider=True))
        parts.append(
            Part(
                [(side * 0.14, foot[0], foot[1] - 0.06, 0.048), (side * 0.14, foot[0] - 0.01, foot[1] + 0.12, 0.04)],
                (0.08, 0.08, 0.08),
                rider=True,
            )
        )
        elbow = (side * 0.30, (shoulder[0] + hands[1]) / 2 - 0.06, (shoulder[1] + hands[2]) / 2 - 0.03)
        parts.append(Part([(side * 0.19, shoulder[0], shoulder[1], 0.07), (*elbow, 0.056)], coat, rider=True))
        parts.append(Part([(*elbow, 0.054), (side * hands[0], hands[1] + 0.04, hands[2], 0.04)], coat, rider=True))
        parts.append(Part([(side * hands[0], hands[1] + 0.03, hands[2] + 0.02, 0.045)], skin, rider=True))
    parts.append(
        Part(
            [(s * 0.15, shoulder[0], shoulder[1], 0.09) for s in (-1, 1)]
            + [(s * 0.10, hip[0] + 0.04, hip[1], 0.13) for s in (-1, 1)],
            coat,
            rider=True,
        )
    )
    top, ahead = shoulder[0] + 0.25, shoulder[1] + 0.09
    parts.append(
        Part([(0, shoulder[0] + 0.08, shoulder[1] + 0.03, 0.055), (0, top - 0.04, ahead, 0.06)], skin, rider=True)
    )
    if not full_face:
        parts.append(Part([(0, top, ahead, 0.10), (0, top - 0.07, ahead + 0.02, 0.075)], skin, rider=True))
    if helmet is None:
        parts.append(
            Part([(0, top + 0.04, ahead - 0.04, 0.10), (0, top - 0.02, ahead - 0.06, 0.085)], hair, rider=True)
        )
    elif full_face:
        parts.append(
            Part([(0, top + 0.02, ahead - 0.01, 0.145), (0, top - 0.05, ahead + 0.03, 0.12)], helmet, 0.25, rider=True)
        )
        parts.append(Part([(s * 0.06, top, ahead + 0.10, 0.055) for s in (-1, 1)], (0.05, 0.05, 0.06), 0.3, rider=True))
    else:
        parts.append(
            Part([(0, top + 0.06, ahead - 0.05, 0.105), (0, top + 0.06, ahead + 0.03, 0.095)], helmet, 0.2, rider=True)
        )
    return parts
