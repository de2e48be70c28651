"""Procedural textures without geometry: fractal noise and the helpers that turn it into materials."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from efficientps.synthetic.streets.camera import Array
from efficientps.synthetic.streets.lighting import Light, Rgb

TILE = 512
"""Height and width of the noise tiles, pixels; a power of two, so that coordinates wrap by a bit mask."""


@cache
def noise_tile(roughness: float = 1.0) -> Array:
    """Return a tileable fractal noise, float32 ``[512, 512]`` in [0, 1] with mean 0.5.

    Args:
        roughness: exponent of the falling amplitude spectrum: 0 is white noise, 1 is rough stone, 2 is clouds.
    """
    rng = np.random.default_rng(20200402)
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    frequency[0, 0] = 1.0
    spectrum *= frequency**-roughness
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(TILE, TILE))
    tile: Array = np.clip(0.5 + field / (5.0 * field.std()), 0.0, 1.0).astype(np.float32)
    tile.setflags(write=False)
    return tile


@cache
def _four_tiles(roughness: float) -> Array:
    """Two by two copies of a tile: a patch that wraps around is a slice of it."""
    tiles = np.tile(noise_tile(roughness), (2, 2))
    tiles.setflags(write=False)
    return tiles


def noise_patch(rng: np.random.Generator, shape: tuple[int, int], cell: float = 1.0, roughness: float = 1.0) -> Array:
    """Cut a random patch of noise, float32 ``[h, w]`` in [0, 1], not to be written to.

    Args:
        rng: chooses where.
        shape: ``(h, w)`` of the patch.
        cell: pixels of the patch per pixel of the tile; larger is coarser.
        roughness: roughness of the tile.
    """
    height, width = max(2, round(shape[0] / cell)), max(2, round(shape[1] / cell))
    top, left = rng.integers(0, TILE, 2)
    if max(height, width) <= TILE:
        patch = _four_tiles(roughness)[top : top + height, left : left + width]
    else:
        rows, columns = (np.arange(height) + top) % TILE, (np.arange(width) + left) % TILE
        patch = noise_tile(roughness)[np.ix_(rows, columns)]
    if (height, width) != shape:
        patch = cv2.resize(patch, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return patch


def noise_at(x: Array, y: Array, roughness: float = 1.0) -> Array:
    """Sample the noise at float32 coordinates in tile pixels (they wrap around; |x| < 32768), bilinearly."""
    return cv2.remap(noise_tile(roughness), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def noise_nearest(x: Array, y: Array, roughness: float = 1.0) -> Array:
    """Sample the noise at coordinates in tile pixels (they wrap around), without interpolation; any shape."""
    values: Array = noise_tile(roughness)[y.astype(np.int64) & (TILE - 1), x.astype(np.int64) & (TILE - 1)]
    return values


@dataclass
class Surface:
    """A flat painted surface: the material and the brightness of each texel.

    Attributes:
        code: uint8 ``[h, w]``, index of the material; row 0 is the top.
        grain: float32 ``[h, w]``, brightness around 1.
        albedo: float32 ``[n, 3]`` of each material, in [0, 1].
        mirror: float32 ``[n]``, share of the sky that each material mirrors.
    """

    code: npt.NDArray[np.uint8]
    grain: Array
    albedo: Array
    mirror: Array

    def lit(self, light: Light, normal: Rgb, distances: Array) -> npt.NDArray[np.uint8]:
        """Return the colours uint8 ``[h, w, 3]`` in the light.

        Args:
            light: illumination.
            normal: normal of the surface in the world.
            distances: ``[w]``, of each column from the camera, metres.
        """
        direct = max(0.0, sum(a * b for a, b in zip(normal, light.sun, strict=True)))
        sky = np.array(light.ambient) * 0.72 + np.array(light.sun_colour) * direct
        horizon = np.array(light.horizon, np.float32) * np.float32(255)
        palette = (self.albedo * sky * 255 + self.mirror[:, None] * horizon).astype(np.float32)
        clear = np.exp(-np.asarray(distances, np.float32) / np.float32(light.haze))[None]
        colours = np.take(palette, self.code, axis=0) * (self.grain * clear)[..., None]
        colours += (1 - clear)[..., None] * horizon
        final: npt.NDArray[np.uint8] = np.minimum(colours, 255).astype(np.uint8)
        return final
