"""The sky, and the backdrop of trees and roofs at the end of the street."""

from __future__ import annotations

import cv2
import numpy as np

from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.ground import ground_row
from efficientps.synthetic.streets.labels import BUILDING, SKY, VEGETATION
from efficientps.synthetic.streets.texture import TILE, noise_at, noise_patch


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the whole canvas as sky: a gradient from the horizon to the zenith, with clouds in perspective."""
    camera, light = canvas.camera, canvas.light
    height, width = camera.height, camera.width
    step = 2  # clouds are blurry, so half the resolution is enough
    last = min(height, ground_row(camera) + 2)
    rows = np.arange(0, last, step, dtype=np.float32)[:, None]
    rise = np.clip((camera.horizon - rows) / camera.focal, 0.0, 1.2)
    blend = (1 - np.exp(-2.6 * rise))[..., None]
    colour = np.array(light.horizon, np.float32) * (1 - blend) + np.array(light.zenith, np.float32) * blend
    columns = np.arange(0, width, step, dtype=np.float32)[None]
    stretch = 1.0 / (rise + 0.09)
    shift = rng.uniform(0, TILE, 2).astype(np.float32)
    u = (columns - width / 2) / camera.focal * stretch * 34 + shift[0]
    v = np.broadcast_to(stretch * 22 + shift[1], u.shape)
    cloud = noise_at(u.astype(np.float32), v.astype(np.float32), 1.6)
    amount = np.clip((cloud - (0.72 - 0.44 * light.cloud)) * 4.0, 0.0, 1.0)[..., None]
    relief = np.clip(0.8 + (cloud[..., None] - 0.5) * (0.9 if light.name == "overcast" else 0.6), 0.0, 1.1)
    white = np.array([1.0, 0.98, 0.95], np.float32) * (np.array(light.horizon, np.float32) * 0.5 + 0.5)
    colour = colour + amount * (relief * white - colour) * np.float32(0.85)
    sky = np.clip(colour * 255, 0, 255).astype(np.uint8)
    canvas.image[:last] = cv2.resize(sky, (width, last), interpolation=cv2.INTER_LINEAR)
    canvas.owner[:] = canvas.stuff(SKY)


def paint_backdrop(canvas: Canvas, rng: np.random.Generator) -> None:
    """Close the view at the horizon with distant tree tops and roofs, veiled by haze."""
    camera, light = canvas.camera, canvas.light
    scale = camera.focal / 170.0
    width = camera.width
    for layer in range(2):
        built = rng.random() < 0.45
        top = rng.uniform(6, 13) if layer == 0 else rng.uniform(3, 8)
        if built:
            steps = np.repeat(rng.uniform(0.55, 1.35, width), max(2, int(9 * scale)))[:width]
            skyline = top * steps
            base = rng.choice([[0.52, 0.47, 0.42], [0.45, 0.43, 0.42], [0.58, 0.52, 0.44]])
        else:
            skyline = top * (0.55 + noise_patch(rng, (2, width), max(1.0, 1.2 * scale), 0.9)[0])
            base = np.array([0.17, 0.24, 0.10])
        veil = 1 - np.exp(-170 / light.haze)
        lit = np.array(base) * (np.array(light.ambient) + 0.4 * np.array(light.sun_colour))
        colour = lit * (1 - veil) + np.array(light.horizon) * veil
        horizon = ground_row(camera) + 1
        highest = max(0, int(camera.horizon - skyline.max() * scale))
        if highest >= min(horizon, camera.height):
            return
        rows = np.arange(highest, min(horizon, camera.height))[:, None]
        mask = rows >= camera.horizon - skyline[None] * scale
        grain = 1 + (noise_patch(rng, mask.shape, max(1.0, scale / 2), 0.6) - 0.5) * (0.25 if built else 0.7) * (
            1 - veil
        )
        patch = np.clip(colour * 255 * grain[..., None], 0, 255).astype(np.uint8)
        window = canvas.image[rows[0, 0] : rows[-1, 0] + 1]
        cv2.copyTo(patch, mask.astype(np.uint8), window)
        canvas.owner[rows[0, 0] : rows[-1, 0] + 1][mask] = canvas.stuff(BUILDING if built else VEGETATION)
