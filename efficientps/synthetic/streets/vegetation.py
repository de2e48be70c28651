"""Trees, bushes and hedges: clumps of leaves cut out of fractal noise."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from efficientps.synthetic.streets.camera import NEAR, Array, Pose
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.labels import VEGETATION
from efficientps.synthetic.streets.lighting import Light, Rgb
from efficientps.synthetic.streets.texture import noise_patch

LEAVES: tuple[Rgb, ...] = (
    (0.20, 0.30, 0.10),
    (0.16, 0.26, 0.09),
    (0.26, 0.34, 0.12),
    (0.30, 0.36, 0.14),
    (0.17, 0.24, 0.13),
    (0.40, 0.32, 0.10),
)
BARK: Rgb = (0.26, 0.21, 0.16)
_FINEST = 150  # pixels: foliage is computed at this size at least, and enlarged beyond


def draw_foliage(
    canvas: Canvas, rng: np.random.Generator, world: Array, clumps: Array, leaf: Rgb, spread: float = 1.0
) -> None:
    """Draw clumps of leaves as one patch facing the camera.

    Args:
        canvas: is drawn on.
        rng: chooses the leaves.
        world: the point ``[3]`` that the clumps are placed around.
        clumps: ``[n, 4]``: offset right, offset up, half width, half height of each, metres.
        leaf: albedo.
        spread: raggedness of the outline.
    """
    centre = canvas.camera.to_camera(world[None])
    distance = float(centre[0, 2])
    if distance < NEAR * 3:
        return
    scale = canvas.camera.focal / distance
    u, v = canvas.camera.project(centre)[0]
    pad = 1.25
    left, right = float((clumps[:, 0] - pad * clumps[:, 2]).min()), float((clumps[:, 0] + pad * clumps[:, 2]).max())
    low, high = float((clumps[:, 1] - pad * clumps[:, 3]).min()), float((clumps[:, 1] + pad * clumps[:, 3]).max())
    window = (int(u + left * scale), int(v - high * scale), int(u + right * scale) + 1, int(v - low * scale) + 1)
    if window[2] <= 0 or window[0] >= canvas.camera.width or window[3] <= 0 or window[1] >= canvas.camera.height:
        return
    height, width = window[3] - window[1], window[2] - window[0]
    if height < 3 or width < 3:
        return
    reduce = min(1.0, max(_FINEST, canvas.camera.height * 0.3) / max(height, width))
    shape = (max(3, round(height * reduce)), max(3, round(width * reduce)))
    light = canvas.light
    body, bulge = _clump_field(clumps, (left, right, low, high), shape, float(light.sun[0]))
    per_pixel = (right - left) / shape[1]
    leaves = noise_patch(rng, shape, max(1.0, 0.035 / per_pixel), 0.55) - 0.5
    twigs = noise_patch(rng, shape, max(1.0, 0.16 / per_pixel), 0.9) - 0.5
    edge: Array = body + np.float32(spread) * (twigs * np.float32(1.9) + leaves * np.float32(1.1)) - np.float32(0.12)
    glow = 0.62 + 0.42 * bulge + 1.15 * (twigs + leaves)
    patch: Array = _leaf_ramp(light, leaf, distance)[np.clip(glow * 128, 0, 255).astype(np.uint8)]
    if shape != (height, width):
        patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
        edge = cv2.resize(edge, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas.paste(window, patch, edge > 0, canvas.stuff(VEGETATION))


def _clump_field(
    clumps: Array, limits: tuple[float, float, float, float], shape: tuple[int, int], sideways: float
) -> tuple[Array, Array]:
    """How deep inside a clump each pixel lies (< 0 outside) and how much it faces the light, float32 ``[h, w]``."""
    left, right, low, high = limits
    coarse = (max(3, shape[0] // 3), max(3, shape[1] // 3))  # both are smooth
    y = np.linspace(high, low, coarse[0], dtype=np.float32)[:, None]
    x = np.linspace(left, right, coarse[1], dtype=np.float32)[None]
    body = np.full(coarse, -9.0, np.float32)
    bulge = np.zeros(coarse, np.float32)
    for dx, dy, a, b in clumps:
        du, dv = (x - np.float32(dx)) / np.float32(a), (y - np.float32(dy)) / np.float32(b)
        field = 1 - du * du - dv * dv
        bulge = np.where(field > body, dv * np.float32(0.55) + du * np.float32(0.35 * sideways), bulge)
        np.maximum(body, field, out=body)
    size = (shape[1], shape[0])
    return cv2.resize(body, size, interpolation=cv2.INTER_LINEAR), cv2.resize(
        bulge, size, interpolation=cv2.INTER_LINEAR
    )


def _leaf_ramp(light: Light, leaf: Rgb, distance: float) -> npt.NDArray[np.uint8]:
    """Colours uint8 ``[256, 3]`` of leaves from the deepest shade to full sun (index = 128 times the brightness)."""
    glow = np.arange(256)[:, None] / 128
    sun = np.array(light.sun_colour) * (0.55 + 0.5 * light.sun[1])
    colours = np.clip(glow, 0.18, 1.6) * np.array(leaf) * (np.array(light.ambient) * 0.85 + sun)
    colours += np.clip(glow - 1.0, 0, 1) * np.array([0.10, 0.10, 0.02])
    veil = 1 - np.exp(-distance / light.haze)
    colours += veil * (np.array(light.horizon) - colours)
    ramp: npt.NDArray[np.uint8] = np.clip(colours * 255, 0, 255).astype(np.uint8)
    return ramp


def draw_tree(canvas: Canvas, rng: np.random.Generator, pose: Pose, height: float, leaf: Rgb) -> None:
    """Draw a deciduous or a columnar tree: trunk, branches, and a crown of clumps."""
    columnar = rng.random() < 0.2
    trunk = height * (0.14 if columnar else rng.uniform(0.26, 0.36))
    radius = 0.018 * height + 0.05
    base = canvas.camera.to_camera(np.array([[pose.x, 0.0, pose.z]]))[0]
    if base[2] < NEAR * 3:
        return
    owner = canvas.stuff(VEGETATION)
    lean = rng.uniform(-0.15, 0.15)
    spheres = np.array([[*base, radius * 1.15], [base[0] + lean, base[1] + trunk * 1.5, base[2], radius * 0.75]])
    canvas.blob(spheres, BARK, owner)
    for side in (-1, 1):
        tip = [base[0] + lean + side * height * 0.14, base[1] + height * 0.62, base[2], radius * 0.3]
        canvas.blob(np.array([spheres[1], tip]), BARK, owner)
    crown = height - trunk
    count = 5 if columnar else int(rng.integers(6, 10))
    wide = crown * (0.24 if columnar else rng.uniform(0.40, 0.55))
    clumps = []
    for k in range(count):
        level = (k + 0.5) / count
        reach = wide * np.sqrt(max(0.05, 1 - (2 * level - 0.85) ** 2 * 0.8))
        size = wide * rng.uniform(0.42, 0.62)
        clumps.append(
            (
                rng.uniform(-1, 1) * reach * 0.75,
                trunk + crown * (0.14 + 0.74 * level),
                size,
                size * rng.uniform(0.7, 1.0),
            )
        )
    clumps.append((0.0, trunk + crown * 0.5, wide * 0.72, crown * 0.40))
    draw_foliage(canvas, rng, np.array([pose.x, 0.0, pose.z]), np.array(clumps), leaf)


def draw_hedge(
    canvas: Canvas, rng: np.random.Generator, line: Sequence[tuple[float, float]], height: float, leaf: Rgb
) -> None:
    """Draw a row of bushes along a line of world points (x, z), the farthest first."""
    points = np.array([(x, 0.0, z) for x, z in line])
    for index in np.argsort(-canvas.camera.to_camera(points)[:, 2]):
        size = height * rng.uniform(0.85, 1.15)
        wide = max(size * 0.85, 0.045 * abs(points[index, 2]))
        clumps = np.array(
            [(0.0, size * 0.40, wide, size * 0.60), (rng.uniform(-0.5, 0.5), size * 0.65, size * 0.5, size * 0.35)]
        )
        draw_foliage(canvas, rng, points[index], clumps, leaf, spread=0.7)
