"""A construction yard: ground, background and overlapping things, drawn from back to front."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from efficientps.structures.categories import Category
from efficientps.synthetic.yards.machines import THINGS, Part, Rgb

YARD_CATEGORIES: tuple[Category, ...] = (
    Category(12, "worker", (255, 120, 20), is_thing=True),
    Category(5, "sky", (120, 180, 220), is_thing=False),
    Category(40, "excavator", (240, 190, 30), is_thing=True),
    Category(41, "dump truck", (190, 60, 50), is_thing=True),
    Category(9, "earth", (150, 110, 70), is_thing=False),
    Category(52, "traffic cone", (255, 60, 120), is_thing=True),
    Category(20, "concrete wall", (150, 150, 160), is_thing=False),
    Category(55, "container", (50, 90, 180), is_thing=True),
    Category(23, "fence", (190, 200, 150), is_thing=False),
    Category(61, "pallet", (120, 70, 40), is_thing=True),
    Category(62, "pipe", (170, 160, 210), is_thing=True),
    Category(31, "gravel", (200, 190, 170), is_thing=False),
    Category(70, "crane", (250, 230, 90), is_thing=True),
    Category(71, "concrete mixer", (90, 200, 190), is_thing=True),
    Category(33, "vegetation", (70, 140, 60), is_thing=False),
    Category(80, "barrel", (60, 60, 220), is_thing=True),
)
"""The classes in the order of the JSON file: things and stuff are mixed, ids have gaps, the first thing has id 12."""

MIN_SIDE = 48
"""Smallest height and width of a yard, pixels; objects in a smaller one would not be recognisable."""

MIN_AREA = 12
"""Smallest visible area of a segment, pixels; a smaller one becomes void, as annotators skip it."""

_LABEL_IDS = {category.name: category.label_id for category in YARD_CATEGORIES}
_DENSITY = {"worker": 3.0, "traffic cone": 2.5, "barrel": 1.5, "pallet": 1.5, "pipe": 1.2, "container": 0.8}
"""Mean number of instances in a scene; for all other things it is 0.5."""


@dataclass(frozen=True)
class YardScene:
    """A scene and its exact annotation.

    Attributes:
        image: uint8 ``[h, w, 3]``, RGB.
        segment_ids: int32 ``[h, w]``, 1 .. N, 0 where void.
        label_ids: class of each of the N segments.
        crowds: whether each segment is a crowd region.
    """

    image: NDArray[np.uint8]
    segment_ids: NDArray[np.int32]
    label_ids: list[int]
    crowds: list[bool]


class _Painter:
    """A canvas on which later objects cover earlier ones, in colour and in ownership; owner 0 stands for no segment."""

    def __init__(self, height: int, width: int) -> None:
        self.image: NDArray[np.uint8] = np.zeros((height, width, 3), dtype=np.uint8)
        self.owner: NDArray[np.int32] = np.zeros((height, width), dtype=np.int32)
        self.label_ids: list[int] = [0]
        self.crowds: list[bool] = [False]
        self._stuff: dict[str, int] = {}

    def claim(self, name: str, *, crowd: bool = False) -> int:
        """Return a new owner of a class."""
        self.label_ids.append(_LABEL_IDS[name])
        self.crowds.append(crowd)
        return len(self.label_ids) - 1

    def fill(self, outline: NDArray[np.float64], color: Rgb, owner: int | None) -> None:
        """Fill a polygon ``[n, 2]`` in pixels (x, y)."""
        points = np.round(outline).astype(np.int32)[:, None]
        cv2.fillPoly(self.image, [points], color, cv2.LINE_AA)
        if owner is not None:
            cv2.fillPoly(self.owner, [points], owner, cv2.LINE_8)

    def stuff(self, name: str, outline: NDArray[np.float64], color: Rgb) -> None:
        """Fill a polygon of a stuff class; all pixels of the class form one segment."""
        if name not in self._stuff:
            self._stuff[name] = self.claim(name)
        self.fill(outline, color, self._stuff[name])

    def parts(self, parts: list[Part], foot: tuple[float, float], scale: float, mirror: bool, owner: int) -> None:
        """Draw a thing that stands at a point; one unit of the thing is ``scale`` pixels long."""
        side = -1.0 if mirror else 1.0
        for part in parts:
            units = np.array(part.outline)
            self.fill(np.array(foot) + units * (side * scale, -scale), part.color, owner)


def render_yard(seed: int, size: tuple[int, int]) -> YardScene:
    """Draw the yard of a seed.

    Args:
        seed: seed of the scene.
        size: (height, width), pixels.

    Raises:
        ValueError: if a side is shorter than ``MIN_SIDE``.
    """
    height, width = size
    if min(size) < MIN_SIDE:
        raise ValueError(f"A synthetic yard has at least {MIN_SIDE} pixels on each side, not {height}x{width}.")
    rng = np.random.default_rng(seed)
    painter = _Painter(height, width)
    horizon = height * rng.uniform(0.3, 0.45)
    _background(painter, rng, horizon)
    _things(painter, rng, horizon)
    if rng.random() < 0.25:  # the machine that carries the camera: annotators leave it out
        low = height * rng.uniform(0.92, 0.97)
        painter.fill(_box(width * 0.2, low, width * 0.8, height), (30, 30, 34), 0)
    return _annotate(_photograph(painter.image, rng), painter)


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _background(painter: _Painter, rng: np.random.Generator, horizon: float) -> None:
    """Draw sky, ground and the background of the yard."""
    height, width = painter.owner.shape
    blue = rng.uniform(0.4, 1.0)
    painter.stuff("sky", _box(0, 0, width, horizon), (200 - 70 * blue, 210 - 30 * blue, 220 + 20 * blue))
    if rng.random() < 0.7:
        crowns = np.sort(rng.uniform(0, width, 8))
        top = horizon - height * rng.uniform(0.04, 0.14, 8)
        skyline = np.stack(
            [np.concatenate([[0], crowns, [width]]), np.concatenate([[horizon], top, [horizon]])], axis=1
        )
        painter.stuff("vegetation", skyline, (60, 100 + 40 * rng.random(), 50))
    painter.stuff("earth", _box(0, horizon, width, height), (150 + 30 * rng.random(), 116, 80))
    if rng.random() < 0.6:
        left, right = np.sort(rng.uniform(0, width, 2))
        wall = _box(left, horizon - height * rng.uniform(0.12, 0.25), right + width * 0.15, horizon + height * 0.02)
        painter.stuff("concrete wall", wall, (165, 162, 158))
    if rng.random() < 0.6:
        top, bottom = horizon - height * 0.05, horizon + height * 0.03
        left = width * rng.uniform(0, 0.5)
        right = left + width * rng.uniform(0.3, 0.6)
        painter.stuff("fence", _box(left, top, right, bottom), (176, 186, 150))
        for x in np.arange(left, right, max(3.0, width / 40)):
            painter.fill(_box(x, top, x + 1, bottom), (90, 100, 80), None)
    for _ in range(int(rng.integers(0, 3))):
        middle, foot = rng.uniform(0, width), rng.uniform(horizon + 0.05 * height, 0.85 * height)
        spread = width * rng.uniform(0.08, 0.2)
        heap = np.array(
            [(middle - spread, foot), (middle - 0.2 * spread, foot - 0.6 * spread), (middle + spread, foot)]
        )
        painter.stuff("gravel", heap, (190, 184, 172))


def _things(painter: _Painter, rng: np.random.Generator, horizon: float) -> None:
    """Draw the things, those that stand farther away first; one in four scenes has a stack of pipes, a crowd."""
    height, width = painter.owner.shape
    names = [name for name in THINGS for _ in range(int(rng.poisson(_DENSITY.get(name, 0.5))))]
    feet = np.sort(rng.uniform(0.05, 1.0, len(names)) ** 0.8)
    for name, nearness in zip(rng.permutation(names).tolist(), feet.tolist(), strict=True):
        thing = THINGS[name]
        metre = min(height - horizon, 0.5 * width) * 0.16 * (0.35 + nearness)
        foot = (rng.uniform(0, width), horizon + (height - horizon) * nearness)
        if name == "crane":
            metre, foot = height * rng.uniform(0.03, 0.05), (foot[0], horizon + (height - horizon) * 0.1)
        painter.parts(thing.draw(rng), foot, thing.height * metre, bool(rng.random() < 0.5), painter.claim(name))
    if rng.random() < 0.25:
        owner = painter.claim("pipe", crowd=True)
        radius = height * rng.uniform(0.02, 0.035)
        x, y = rng.uniform(0.1, 0.8) * width, horizon + (height - horizon) * rng.uniform(0.3, 0.9)
        for row in range(3):
            for place in range(6 - row):
                centre = np.array((x + (2 * place + row) * radius, y - 1.7 * row * radius))
                circle = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 12, endpoint=False)])
                painter.fill(centre + radius * circle, (186, 184, 176), owner)
                painter.fill(centre + 0.6 * radius * circle, (70, 68, 66), owner)


def _photograph(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add light from one side, the grain of surfaces and the noise of a sensor."""
    height, width = image.shape[:2]
    light = np.linspace(rng.uniform(0.8, 1.0), rng.uniform(0.9, 1.15), width)[None, :, None] * rng.uniform(0.8, 1.1)
    coarse = rng.normal(1.0, 0.06, (height // 6 + 2, width // 6 + 2)).astype(np.float32)
    grain = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))[..., None]
    noisy = image * light * grain + rng.normal(0, 5, image.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _annotate(image: NDArray[np.uint8], painter: _Painter) -> YardScene:
    """Number the visible segments from 1, and leave out segments smaller than ``MIN_AREA``."""
    areas = np.bincount(painter.owner.ravel(), minlength=len(painter.label_ids))
    kept = [owner for owner in range(1, len(areas)) if areas[owner] >= MIN_AREA]
    numbers = np.zeros(len(areas), dtype=np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return YardScene(
        image=image,
        segment_ids=numbers[painter.owner],
        label_ids=[painter.label_ids[owner] for owner in kept],
        crowds=[painter.crowds[owner] for owner in kept],
    )
