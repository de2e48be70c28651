"""Bicycles, motorcycles and scooters with their riders; frame: x right, y up, z front, metres."""

from __future__ import annotations

import numpy as np

from efficientps.synthetic.streets.figures import COATS, TROUSERS, Part, pick, seated
from efficientps.synthetic.streets.lighting import Rgb

CHROME: Rgb = (0.60, 0.60, 0.62)


def _tyre(z: float, radius: float, tube: float, colour: Rgb) -> Part:
    angle = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    rim = [
        (0.0, radius + (radius - tube) * float(np.sin(t)), z + (radius - tube) * float(np.cos(t)), tube) for t in angle
    ]
    return Part([(0.0, radius, z, tube), *rim], colour, ring=tube)


def bicycle(rng: np.random.Generator, *, ridden: bool) -> list[Part]:
    """Draw a bicycle, with its rider if it is ridden."""
    paint = pick(
        rng,
        (
            (0.65, 0.08, 0.08),
            (0.10, 0.22, 0.50),
            (0.08, 0.08, 0.09),
            (0.72, 0.72, 0.72),
            (0.1, 0.42, 0.3),
            (0.85, 0.6, 0.1),
        ),
    )
    dark: Rgb = (0.06, 0.06, 0.06)
    tube = 0.026
    rear, bottom, seat, head, front = (0.34, -0.52), (0.29, -0.04), (0.80, -0.20), (0.84, 0.36), (0.34, 0.54)

    def bar(a: tuple[float, float], b: tuple[float, float], colour: Rgb = paint, r: float = tube) -> Part:
        return Part([(0, a[0], a[1], r), (0, b[0], b[1], r)], colour)

    parts = [_tyre(-0.52, 0.34, 0.026, dark), _tyre(0.54, 0.34, 0.026, dark)]
    parts += [bar(rear, bottom), bar(rear, seat, r=0.018), bar(bottom, seat), bar(bottom, head), bar(seat, head)]
    parts += [bar(head, front, r=0.022), bar(head, (1.02, 0.33), CHROME, 0.02), bar(seat, (0.92, -0.24), CHROME, 0.018)]
    parts.append(Part([(0, 0.95, -0.32, 0.055), (0, 0.95, -0.12, 0.03)], dark))
    parts.append(Part([(s * 0.26, 1.04, 0.28, 0.022) for s in (-1, 1)], dark))
    parts.append(Part([(0, 0.29, -0.04, 0.085)], (0.2, 0.2, 0.2)))
    parts.append(Part([(0, 0.70, -0.53, 0.04)], (0.75, 0.06, 0.05)))
    if rng.random() < 0.4:
        parts.append(Part([(s * 0.13, y, 0.52, 0.03) for s in (-1, 1) for y in (0.85, 1.02)], (0.34, 0.26, 0.18)))
    if rng.random() < 0.5:
        parts.append(Part([(s * 0.06, 0.72, z, 0.015) for s in (-1, 1) for z in (-0.62, -0.25)], dark))
    if ridden:
        upright = rng.uniform(0.0, 1.0)
        down = bool(rng.random() < 0.5)
        helmet = (
            pick(rng, ((0.9, 0.9, 0.88), (0.1, 0.1, 0.1), (0.75, 0.1, 0.1), (0.15, 0.4, 0.7)))
            if rng.random() < 0.6
            else None
        )
        feet = [(0.14, -0.02), (0.46, 0.0)] if down else [(0.46, 0.0), (0.14, -0.02)]
        parts += seated(
            rng,
            hip=(1.02, -0.24),
            shoulder=(1.44 + 0.08 * upright, 0.16 - 0.24 * upright),
            hands=(0.24, 1.04, 0.28),
            feet=feet,
            knee=(0.66, 0.18),
            coat=pick(rng, COATS),
            trousers=pick(rng, TROUSERS),
            helmet=helmet,
            full_face=False,
        )
    return parts


def motorcycle(rng: np.random.Generator, *, ridden: bool) -> list[Part]:
    """Draw a motorcycle or a scooter, with its rider if it is ridden."""
    paint = pick(
        rng,
        (
            (0.70, 0.06, 0.06),
            (0.08, 0.08, 0.09),
            (0.10, 0.22, 0.55),
            (0.90, 0.42, 0.05),
            (0.1, 0.45, 0.15),
            (0.82, 0.82, 0.80),
        ),
    )
    dark: Rgb = (0.055, 0.055, 0.06)
    scooter = bool(rng.random() < 0.35)
    radius, base = (0.25, 0.62) if scooter else (0.32, 0.72)
    parts = []
    for z in (-base, base):
        parts.append(
            Part(
                [
                    (
                        s * 0.05,
                        radius + (radius - 0.05) * float(np.sin(t)),
                        z + (radius - 0.05) * float(np.cos(t)),
                        0.05,
                    )
                    for t in np.linspace(0, 2 * np.pi, 12, endpoint=False)
                    for s in (-1, 1)
                ],
                dark,
            )
        )
        parts.append(Part([(s * 0.11, radius, z, radius * 0.48) for s in (-1, 1)], (0.42, 0.42, 0.44), 0.1))
    bars = (1.08, base - 0.35)
    if scooter:
        parts.append(
            Part(
                [
                    (s * 0.15, y, z, 0.08)
                    for s in (-1, 1)
                    for y, z in ((0.42, -0.75), (0.68, -0.8), (0.68, -0.1), (0.42, -0.05))
                ],
                paint,
                0.15,
            )
        )
        parts.append(Part([(s * 0.14, 0.30, z, 0.06) for s in (-1, 1) for z in (-0.15, 0.4)], dark))
        parts.append(
            Part([(s * 0.17, y, z, 0.05) for s in (-1, 1) for y, z in ((0.36, 0.42), (0.95, 0.3))], paint, 0.15)
        )
        parts.append(Part([(s * 0.1, 0.8, z, 0.06) for s in (-1, 1) for z in (-0.75, -0.1)], dark))
        parts.append(Part([(0, 0.98, 0.32, 0.10)], paint, 0.15))
        parts.append(Part([(0, 0.80, 0.42, 0.08)], (0.9, 0.9, 0.84), 0.3))
        parts.append(Part([(s * 0.08, 0.36, base, 0.08) for s in (-1, 1)] + [(0, 0.45, base - 0.1, 0.1)], paint, 0.15))
    else:
        parts.append(
            Part(
                [
                    (s * 0.11, y, z, 0.09)
                    for s in (-1, 1)
                    for y, z in ((0.36, -0.28), (0.36, 0.25), (0.60, 0.2), (0.6, -0.2))
                ],
                (0.30, 0.30, 0.32),
                0.1,
            )
        )
        parts.append(Part([(s * 0.08, 0.86, z, 0.12) for s in (-1, 1) for z in (-0.02, 0.32)], paint, 0.2))
        parts.append(Part([(s * 0.08, 0.78, z, 0.08) for s in (-1, 1) for z in (-0.7, -0.1)], dark))
        parts.append(Part([(s * 0.07, 0.82, -0.85, 0.06) for s in (-1, 1)] + [(0, 0.72, -0.5, 0.08)], paint, 0.15))
        for side in (-1, 1):
            parts.append(
                Part([(side * 0.11, radius, base, 0.035), (side * 0.11, 1.0, base - 0.35, 0.035)], CHROME, 0.1)
            )
        parts.append(Part([(0.19, 0.34, -0.1, 0.05), (0.2, 0.42, -0.95, 0.06)], CHROME, 0.2))
        if rng.random() < 0.5:
            parts.append(
                Part(
                    [(s * 0.16, y, z, 0.06) for s in (-1, 1) for y, z in ((0.55, 0.35), (0.98, 0.58), (1.12, 0.42))],
                    paint,
                    0.18,
                )
            )
        parts.append(Part([(0, 0.93, base - 0.16, 0.105)], (0.92, 0.91, 0.86), 0.3))
        if rng.random() < 0.3:
            parts.append(Part([(s * 0.18, y, -0.85, 0.08) for s in (-1, 1) for y in (0.92, 1.14)], dark, 0.1))
    parts.append(Part([(s * 0.36, bars[0], bars[1] - 0.06, 0.028) for s in (-1, 1)], dark))
    for side in (-1, 1):
        parts.append(Part([(side * 0.34, 1.24, bars[1], 0.06)], dark, 0.2))
    parts.append(
        Part([(s * 0.07, 0.74, -0.93 if not scooter else -0.88, 0.04) for s in (-1, 1)], (0.80, 0.06, 0.05), 0.1)
    )
    parts.append(Part([(s * 0.07, 0.58, -0.93 if not scooter else -0.88, 0.03) for s in (-1, 1)], (0.85, 0.85, 0.8)))
    if ridden:
        coat = pick(
            rng, ((0.08, 0.08, 0.09), (0.14, 0.14, 0.16), (0.35, 0.08, 0.08), (0.80, 0.85, 0.12), (0.25, 0.2, 0.15))
        )
        helmet = pick(
            rng, ((0.92, 0.92, 0.90), (0.08, 0.08, 0.09), (0.75, 0.08, 0.08), (0.12, 0.3, 0.65), (0.9, 0.6, 0.1))
        )
        foot = (0.30, 0.12) if scooter else (0.34, -0.08)
        parts += seated(
            rng,
            hip=(0.92, -0.35),
            shoulder=(1.43, -0.12),
            hands=(0.33, bars[0], bars[1] - 0.08),
            feet=[foot, foot],
            knee=(0.72, 0.12),
            coat=coat,
            trousers=pick(rng, TROUSERS[:3]),
            helmet=helmet,
            full_face=True,
        )
    return parts
