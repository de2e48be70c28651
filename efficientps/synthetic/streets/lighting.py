"""Time of day and weather: sun, ambient light of the sky, haze, and the shading of surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from efficientps.synthetic.streets.camera import Array

Rgb = tuple[float, float, float]


def dimmed(colour: Rgb, factor: float) -> Rgb:
    """Return a colour with its brightness multiplied, kept in [0, 1]."""
    return min(1.0, colour[0] * factor), min(1.0, colour[1] * factor), min(1.0, colour[2] * factor)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Illumination of a scene; colours are display-space multipliers around 1.

    Attributes:
        name: name of the weather.
        sun: unit vector towards the sun.
        sun_colour: colour of direct light.
        ambient: light from the sky.
        horizon: colour of the sky at the horizon and of the haze, in [0, 1].
        zenith: sky colour overhead, in [0, 1].
        cloud: share of the sky under clouds, in [0, 1].
        haze: distance at which haze covers 63 % of a surface, metres.
        shadow: brightness of cast shadows, in [0, 1]; 1 is no shadow.
    """

    name: str
    sun: Rgb
    sun_colour: Rgb
    ambient: Rgb
    horizon: Rgb
    zenith: Rgb
    cloud: float
    haze: float
    shadow: float

    def shade(self, albedo: Rgb, normal: Rgb, distance: float, gloss: float = 0.0) -> Rgb:
        """Return the colour in [0, 255] of one surface; arguments as in ``shade_all``."""
        red, green, blue = self.shade_all([albedo], np.array([normal]), np.array([distance]), [gloss])[0]
        return red, green, blue

    def shade_all(
        self, albedo: Sequence[Rgb], normals: Array, distances: Array, gloss: Sequence[float]
    ) -> list[list[float]]:
        """Return the colours, red, green and blue in [0, 255], of n surfaces.

        Args:
            albedo: reflectance of each in [0, 1].
            normals: unit normals ``[n, 3]`` in the world.
            distances: from the camera ``[n]``, metres, for the haze.
            gloss: share of the sky that each shows by reflection, as glass and paint do.
        """
        horizon = np.array(self.horizon)
        direct = np.maximum(normals @ np.array(self.sun), 0.0)[:, None]
        up = normals[:, 1:2]
        mirror = np.array(gloss)[:, None] * np.maximum(0.35 + 0.65 * up, 0.0)
        veil = 1.0 - np.exp(-distances / self.haze)[:, None]
        lit = np.array(albedo) * (np.array(self.ambient) * (0.72 + 0.28 * up) + np.array(self.sun_colour) * direct)
        lit = (lit + mirror * horizon) * (1.0 - veil) + horizon * veil
        colours: list[list[float]] = (np.minimum(lit, 1.0) * 255.0).tolist()
        return colours


_WEATHER: dict[str, tuple[float, float, Rgb, Rgb, Rgb, Rgb, float, float]] = {
    # share, sun elevation (degrees), sun colour, ambient, horizon, zenith, shadow, haze
    "sunny": (0.36, 48, (0.62, 0.57, 0.48), (0.54, 0.60, 0.68), (0.80, 0.87, 0.93), (0.33, 0.52, 0.80), 0.52, 420),
    "hazy": (0.18, 40, (0.32, 0.30, 0.26), (0.66, 0.68, 0.70), (0.88, 0.89, 0.89), (0.62, 0.70, 0.80), 0.76, 170),
    "overcast": (0.26, 60, (0.10, 0.10, 0.10), (0.80, 0.82, 0.83), (0.86, 0.87, 0.88), (0.66, 0.69, 0.73), 0.93, 240),
    "evening": (0.12, 17, (0.75, 0.52, 0.30), (0.46, 0.45, 0.52), (0.97, 0.80, 0.60), (0.45, 0.54, 0.72), 0.60, 300),
    "dusk": (0.08, 12, (0.16, 0.12, 0.10), (0.52, 0.54, 0.64), (0.72, 0.68, 0.72), (0.36, 0.42, 0.58), 0.90, 220),
}


def sample_light(rng: np.random.Generator) -> Light:
    """Draw the weather, the time of day and the direction of the sun."""
    names = list(_WEATHER)
    shares = np.array([_WEATHER[name][0] for name in names])
    name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    _, elevation, sun_colour, ambient, horizon, zenith, shadow, haze = _WEATHER[name]
    height = np.deg2rad(elevation * rng.uniform(0.75, 1.25))
    azimuth = rng.uniform(0, 2 * pi)
    strength = rng.uniform(0.85, 1.15)
    return Light(
        name=name,
        sun=(cos(height) * sin(azimuth), float(np.sin(height)), cos(height) * cos(azimuth)),
        sun_colour=(sun_colour[0] * strength, sun_colour[1] * strength, sun_colour[2] * strength),
        ambient=ambient,
        horizon=horizon,
        zenith=zenith,
        cloud=1.0 if name == "overcast" else float(rng.uniform(0.0, 0.75)),
        haze=haze * rng.uniform(0.7, 1.4),
        shadow=shadow,
    )
