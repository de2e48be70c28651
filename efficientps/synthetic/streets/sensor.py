"""The camera: blur of the optics, exposure, white balance, vignette, tone curve and noise."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from efficientps.synthetic.streets.camera import Array


def develop(image: Array, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Turn ideal colours into a photograph of the same size.

    Args:
        image: float32 ``[h, w, 3]`` RGB in [0, 255].
        rng: draws the sensor's settings and its noise.

    Returns:
        uint8 ``[h, w, 3]`` RGB.
    """
    height, width = image.shape[:2]
    sigma = float(rng.uniform(0.0, 0.55))
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    glow = cv2.resize(image, (max(2, width // 16), max(2, height // 16)), interpolation=cv2.INTER_AREA)
    glow = cv2.resize(cv2.blur(glow, (3, 3)), (width, height), interpolation=cv2.INTER_LINEAR)
    flare = np.float32(rng.uniform(0.02, 0.07))
    balance = np.array([rng.uniform(0.94, 1.05), 1.0, rng.uniform(0.94, 1.06)], np.float32)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(height / width)
    vignette = 1 - np.float32(rng.uniform(0.04, 0.24)) * (x * x + y * y)
    signal = (image * (1 - flare) + glow * flare) * balance * (vignette[..., None] / np.float32(255))
    signal *= np.float32(rng.uniform(0.34, 0.50)) / np.maximum(np.float32(0.16), signal.mean())
    # A soft shoulder keeps the sky from burning out: y = x - (x - a)² / 4(1 - a) reaches 1 at x = 2 - a.
    knee = np.float32(0.55)
    signal = np.clip(signal, 0.0, 2 - knee)
    bright = np.maximum(signal - knee, 0)
    signal -= bright * bright / (4 * (1 - knee))
    contrast = np.float32(rng.uniform(0.1, 0.5))
    signal += contrast * (signal * signal * (3 - 2 * signal) - signal)
    level = np.float32(rng.uniform(0.004, 0.015))
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * level
    # Each channel uses one noise tile at another offset as its colour noise.
    shifts = rng.integers(1, 61, (3, 2))
    chroma = np.concatenate([np.roll(noise, tuple(shift), axis=(0, 1)) for shift in shifts], axis=2)
    signal += (noise + np.float32(0.6) * chroma) * (0.5 + np.sqrt(signal))
    return np.clip(signal * 255 + 0.5, 0, 255).astype(np.uint8)
