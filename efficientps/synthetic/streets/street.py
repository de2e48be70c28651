"""Draws a street's layout: lanes, kerbs, pavements, verges, side streets, crossings, markings and materials."""

from __future__ import annotations

import numpy as np

from efficientps.synthetic.streets.ground import LANE, Side, Street
from efficientps.synthetic.streets.lighting import Rgb


def _side(rng: np.random.Generator, lanes_edge: float) -> Side:
    parking = 2.2 if rng.random() < 0.42 else 0.0
    return Side(
        kerb=lanes_edge + parking,
        verge=float(rng.uniform(2.0, 4.2)) if rng.random() < 0.45 else 0.0,
        pavement=float(rng.uniform(3.0, 5.6)),
        lawn=float(rng.uniform(3.0, 7.0)) if rng.random() < 0.4 else 0.0,
        parking=parking,
    )


def sample_street(rng: np.random.Generator) -> Street:
    """Draw a street; the camera drives in the lane around lateral 0."""
    second_own, second_oncoming = rng.random() < 0.22, rng.random() < 0.25
    right = _side(rng, LANE / 2 + (LANE if second_own else 0.0))
    left = _side(rng, LANE * 1.5 + (LANE if second_oncoming else 0.0))
    if rng.random() < 0.5:
        start = float(rng.uniform(9, 30))
        mouth = (start, start + float(rng.uniform(7, 10)))
        for side in (left, right):
            if rng.random() < 0.65:
                side.openings.append(mouth)
    crossings = []
    if rng.random() < 0.5:
        crossings.append(
            left.openings[0][0] - 4.0 if left.openings and rng.random() < 0.6 else float(rng.uniform(8, 24))
        )
        crossings = [max(7.5, crossings[0])]
    lanes: list[float] = []
    solid: list[float] = []
    (solid if rng.random() < 0.2 else lanes).append(-LANE / 2)
    if second_own:
        lanes.append(LANE / 2)
    if second_oncoming:
        lanes.append(-LANE * 1.5)
    for side, sign in ((left, -1), (right, 1)):
        if side.parking and rng.random() < 0.7:
            (solid if rng.random() < 0.5 else lanes).append(sign * (side.kerb - side.parking))
    shade = float(rng.uniform(0.26, 0.40))
    warm = float(rng.uniform(-0.01, 0.02))
    stone = float(rng.uniform(0.40, 0.58))
    paving: Rgb = (
        (stone * 1.05, stone, stone * 0.94) if rng.random() < 0.7 else (stone * 1.12, stone * 0.92, stone * 0.84)
    )
    green = float(rng.uniform(0.8, 1.2))
    grass: Rgb = (
        (0.26 * green, 0.36 * green, 0.13 * green)
        if rng.random() < 0.75
        else (0.40 * green, 0.38 * green, 0.20 * green)
    )
    repairs = [
        (
            float(rng.uniform(-6, 3)),
            45 * float(rng.random()) ** 1.5 + 3,
            float(rng.uniform(0.6, 2.6)),
            float(rng.uniform(1, 7)),
        )
        for _ in range(int(rng.integers(0, 6)))
    ]
    return Street(
        curvature=float(rng.normal(0, 0.0011)),
        left=left,
        right=right,
        lanes=lanes,
        solid=solid,
        crossings=crossings,
        tram_tracks=[],
        asphalt=(shade + warm, shade, shade - warm * 0.5),
        paving=paving,
        grass=grass,
        paving_tile=float(rng.choice([0.4, 0.6, 1.0])),
        wetness=float(rng.uniform(0.2, 0.6)) if rng.random() < 0.15 else 0.0,
        patches=repairs,
    )
