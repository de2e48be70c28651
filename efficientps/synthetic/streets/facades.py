"""Facades: the designs of buildings and their fronts, painted flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from efficientps.synthetic.streets.camera import Array
from efficientps.synthetic.streets.lighting import Rgb, dimmed
from efficientps.synthetic.streets.texture import Surface, noise_patch

PLASTERS: tuple[Rgb, ...] = (
    (0.80, 0.76, 0.66),
    (0.72, 0.64, 0.50),
    (0.66, 0.66, 0.63),
    (0.82, 0.80, 0.76),
    (0.76, 0.60, 0.46),
    (0.62, 0.66, 0.60),
    (0.78, 0.70, 0.48),
    (0.60, 0.62, 0.68),
    (0.74, 0.58, 0.54),
)
BRICKS: tuple[Rgb, ...] = ((0.46, 0.25, 0.19), (0.52, 0.34, 0.25), (0.40, 0.24, 0.20), (0.55, 0.42, 0.32))
ROOFS: tuple[Rgb, ...] = ((0.42, 0.20, 0.15), (0.24, 0.24, 0.26), (0.33, 0.22, 0.18), (0.20, 0.21, 0.23))
SHOPS: tuple[Rgb, ...] = (
    (0.70, 0.10, 0.10),
    (0.10, 0.28, 0.58),
    (0.92, 0.72, 0.12),
    (0.12, 0.42, 0.25),
    (0.15, 0.15, 0.16),
    (0.85, 0.85, 0.82),
    (0.62, 0.2, 0.45),
)


@dataclass(frozen=True)
class Facade:
    """Design of one building's front; metres."""

    material: str  # plaster, brick, panel or glass
    colour: Rgb
    trim: Rgb
    bay: float
    storey: float
    window: tuple[float, float]  # share of the bay's width and of the storey's height
    shop: bool
    shop_colour: Rgb
    balconies: bool
    roof: Rgb | None
    floors: int

    @property
    def height(self) -> float:
        """Height of the eaves."""
        return self.storey * self.floors + (0.9 if self.shop else 0.3)


def sample_facade(rng: np.random.Generator) -> Facade:
    """Draw the design of a building."""
    material = str(rng.choice(["plaster", "brick", "panel", "glass"], p=[0.48, 0.24, 0.18, 0.10]))
    pool = BRICKS if material == "brick" else PLASTERS
    red, green, blue = pool[int(rng.integers(len(pool)))]
    tint = rng.uniform(0.78, 1.08)
    colour = (red * tint, green * tint, blue * tint) if material != "panel" else (0.58 * tint, 0.57 * tint, 0.55 * tint)
    if material == "glass":
        colour = (0.32 * tint, 0.36 * tint, 0.40 * tint)
    light_trim = rng.random() < 0.65
    window = {"plaster": (0.42, 0.55), "brick": (0.40, 0.55), "panel": (0.86, 0.48), "glass": (0.92, 0.84)}[material]
    return Facade(
        material=material,
        colour=colour,
        trim=(0.86, 0.85, 0.82) if light_trim else (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6),
        bay=float(rng.uniform(2.2, 3.4)),
        storey=float(rng.uniform(2.9, 3.6)),
        window=(window[0] * float(rng.uniform(0.9, 1.1)), window[1] * float(rng.uniform(0.9, 1.12))),
        shop=bool(rng.random() < 0.42),
        shop_colour=SHOPS[int(rng.integers(len(SHOPS)))],
        balconies=bool(material in ("plaster", "panel") and rng.random() < 0.28),
        roof=ROOFS[int(rng.integers(len(ROOFS)))] if material in ("plaster", "brick") and rng.random() < 0.8 else None,
        floors=int(rng.choice([2, 3, 4, 5, 6], p=[0.18, 0.28, 0.26, 0.18, 0.10])),
    )


_WALL, _TRIM, _CORNICE, _SHADE, _CURTAIN, _PLINTH, _SIGN, _LETTER, _CANVAS, _GLASS, _GOODS = range(11)
_LEVELS = 5  # brightness levels of glass and of shop windows


def _palette(facade: Facade) -> tuple[Array, Array]:
    """Albedo ``[n, 3]`` and mirrored share ``[n]`` of a front's materials; glass and goods take several levels each."""
    glossy = facade.material == "glass"
    bright = sum(facade.shop_colour) > 1.5
    albedo = [
        facade.colour,
        facade.trim,
        dimmed(facade.colour, 0.84),
        dimmed(facade.colour, 0.5),
        (0.58, 0.56, 0.50),
        (0.30, 0.29, 0.28),
        facade.shop_colour,
        (0.12, 0.12, 0.13) if bright else (0.95, 0.94, 0.9),
        (0.88, 0.87, 0.84),
    ]
    mirror = [0.0] * len(albedo)
    for level in range(_LEVELS):
        albedo.append((0.085, 0.10, 0.115))
        mirror.append((0.24 if glossy else 0.05) + 0.26 * level / (_LEVELS - 1))
    for level in range(_LEVELS):
        glow = 0.07 + 0.5 * level / (_LEVELS - 1)
        albedo.append((glow, glow * 0.92, glow * 0.8))
        mirror.append(0.10)
    return np.array(albedo, np.float32), np.array(mirror, np.float32)


def facade_surface(
    rng: np.random.Generator, facade: Facade, width: float, density: tuple[float, float], *, blind: bool = False
) -> Surface:
    """Paint a front flat.

    Args:
        rng: chooses curtains, dirt and shop windows.
        facade: design.
        width: width of the front, metres.
        density: pixels per metre, down and across.
        blind: paint an end wall with few windows instead.
    """
    bays = max(1, round(width / facade.bay))
    h, w = max(6, round(facade.height * density[0])), max(4, round(width * density[1]))
    x = (np.arange(w, dtype=np.float32) + 0.5) / w * bays
    y = facade.height - (np.arange(h, dtype=np.float32) + 0.5) / density[0]
    base = facade.height - facade.storey * (facade.floors - (1 if facade.shop else 0))
    level = (y - (base if facade.shop else 0.3)) / facade.storey
    code = np.zeros((h, w), np.uint8)
    grain = noise_patch(rng, (h, w), max(1.0, density[0] / 28), 0.9) * np.float32(
        0.30 if facade.material == "brick" else 0.20
    )
    rows = (1 - 0.22 * np.exp(-y / 0.8)) * (1 - 0.10 * np.clip(1 - (facade.height - y) / 0.7, 0, 1))
    if facade.material == "brick" and density[0] > 9:
        rows = rows * (1 - 0.10 * (np.mod(y, np.float32(0.16)) < 0.04))
    grain += np.float32(0.87)
    grain *= rows[:, None].astype(np.float32)
    _storeys(rng, facade, code, grain, (x, level), density[0], blind=blind)
    code[y > facade.height - 0.35] = _TRIM
    if facade.shop and not blind:
        _shop(rng, code, x, y, base)
    albedo, mirror = _palette(facade)
    return Surface(code, grain, albedo, mirror)


def _storeys(
    rng: np.random.Generator,
    facade: Facade,
    code: npt.NDArray[np.uint8],
    grain: Array,
    position: tuple[Array, Array],
    density: float,
    *,
    blind: bool,
) -> None:
    """Set windows, sills, cornices and balconies into a front, in place; position is in bays and in storeys."""
    x, level = position
    bay, floor = np.floor(x).astype(int), np.floor(level).astype(int)
    off, v = np.abs(x - bay - 0.5), level - floor
    upper = (level >= 0) & (level < facade.floors)
    half, tall, low = facade.window[0] / 2, facade.window[1], 0.22
    mood = rng.random((facade.floors + 1, int(bay[-1]) + 1)).astype(np.float32)
    mood = mood[np.clip(floor, 0, facade.floors)][:, bay]
    shown = mood > 0.72 if blind else np.ones((1, 1), bool)

    def paint(rows: Array, columns: Array, material: int | Array) -> None:
        where = (rows & upper)[:, None] & columns[None] & shown
        np.copyto(code, material, where=where, casting="unsafe")

    if facade.material in ("plaster", "brick"):
        code[upper & (v < 0.05)] = _CORNICE
    if facade.material == "panel":
        code[upper & (v < 0.04)] = _SHADE
        code[:, off > 0.49] = _SHADE
    if facade.material != "glass":
        paint((v > low - 0.075) & (v <= low - 0.03), off < half + 0.07, _CORNICE)
        paint((v > low - 0.04) & (v < low + tall + 0.03), off < half + 0.045, _TRIM)
    opening = (v > low) & (v < low + tall)
    paint(opening, off < half, (_GLASS + mood * (_LEVELS - 0.01)).astype(np.uint8))
    paint(opening & (v > low + tall * 0.55), (off < half), np.where(mood > 0.62, _CURTAIN, code))
    grain[opening] *= (0.72 + 0.55 * v[opening])[:, None]
    if density > 7:
        paint(opening, off < 0.018 + 0.15 / density, _TRIM)
        paint(opening & (np.abs(v - low - tall * 0.68) < 0.014), off < half, _TRIM)
        grain[opening & (v > low + tall - 0.07)] *= np.float32(0.6)
    if facade.balconies and not blind:
        where = (off < 0.48) & (bay % 2 == 0)
        paint((level >= 1) & (v < 0.34), where, _TRIM)
        paint((level >= 1) & (v > 0.95), where, _SHADE)


def _shop(rng: np.random.Generator, code: npt.NDArray[np.uint8], x: Array, y: Array, base: float) -> None:
    """Turn the ground floor into a shop front, in place: goods behind glass, a sign above, perhaps an awning."""
    ground = y < base
    code[ground] = _PLINTH
    goods = noise_patch(rng, code.shape, max(1.0, code.shape[0] / 120), 0.35)
    goods = _GLASS + _LEVELS + np.clip((goods - 0.35) * 3, 0, 0.99) * _LEVELS
    glazed = ((y < base - 1.0) & (y > 0.45))[:, None] & (np.abs(np.mod(x, np.float32(1.0)) - 0.5) < 0.46)[None]
    np.copyto(code, goods.astype(np.uint8), where=glazed)
    code[(y > base - 0.85) & (y < base - 0.15)] = _SIGN
    letters = (np.sin(np.floor(x * 9) * 12.99) * 43758.5) % 1
    text = (letters > 0.35) & (np.mod(x * 9, np.float32(1)) < 0.72) & (np.mod(x, 3.0) < 2.1)
    code[((y > base - 0.68) & (y < base - 0.32))[:, None] & text[None]] = _LETTER
    if rng.random() < 0.4:
        awning = (y > base - 1.35) & (y < base - 0.9)
        code[awning] = np.where(np.mod(np.floor(x * 5), 2) == 0, _SIGN, _CANVAS)
