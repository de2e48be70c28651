"""Both sides of the street: rows of buildings, gardens and parks, and the walls, fences and hedges before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from efficientps.synthetic.streets.barriers import FENCE_STYLES, WALL_STYLES, draw_fence, draw_wall, sample_wall_colour
from efficientps.synthetic.streets.buildings import draw_building
from efficientps.synthetic.streets.facades import Facade, sample_facade
from efficientps.synthetic.streets.ground import END, Side
from efficientps.synthetic.streets.lighting import Rgb
from efficientps.synthetic.streets.stage import Stage, fork
from efficientps.synthetic.streets.vegetation import LEAVES, draw_hedge, draw_tree

FENCE_COLOURS: dict[str, tuple[Rgb, ...]] = {
    "railing": ((0.10, 0.16, 0.13), (0.13, 0.13, 0.14), (0.55, 0.56, 0.57)),
    "mesh": ((0.45, 0.47, 0.48), (0.22, 0.34, 0.26)),
    "planks": ((0.45, 0.32, 0.20), (0.36, 0.28, 0.22), (0.58, 0.50, 0.40)),
    "barrier": ((0.9, 0.9, 0.88),),
}


@dataclass
class Boundary:
    """A wall, fence or hedge along the building line."""

    kind: str
    start: float
    end: float
    height: float


def plan_frontages(stage: Stage, rng: np.random.Generator) -> list[Callable[[], None]]:
    """Plan both frontages and add their shadows to the stage.

    Returns:
        functions that paint them, in the order of painting: the farthest first.
    """
    wanted = {"wall": rng.random() < 0.66, "fence": rng.random() < 0.76, "hedge": rng.random() < 0.35}
    sides: dict[int, list[Boundary]] = {-1: [], 1: []}
    for kind, wish in wanted.items():
        if wish:
            sign = -1 if rng.random() < 0.5 else 1
            _add_boundary(rng, kind, sides[sign], (stage.street.left if sign < 0 else stage.street.right))
            if rng.random() < 0.3:
                _add_boundary(rng, kind, sides[-sign], (stage.street.left if sign > 0 else stage.street.right))
    pieces: list[tuple[float, Callable[[], None]]] = []
    for sign, side in ((-1, stage.street.left), (1, stage.street.right)):
        pieces += _side_pieces(stage, rng, sign, side, sides[sign])
    pieces.sort(key=lambda piece: -piece[0])
    return [draw for _, draw in pieces]


def _add_boundary(rng: np.random.Generator, kind: str, boundaries: list[Boundary], side: Side) -> None:
    start = float(rng.uniform(0, 6)) + side.frontage * 0.9
    end = start + float(rng.uniform(18, 45))
    for opening in side.openings:
        if start < opening[1] + 1 and end > opening[0] - 1:
            if opening[0] - start > 7:
                end = opening[0] - 1
            else:
                start, end = opening[1] + 1, max(end, opening[1] + 16)
    for other in boundaries:
        if start < other.end and end > other.start:
            start, end = other.end, other.end + float(rng.uniform(12, 25))
    height = float(
        {"wall": rng.uniform(1.6, 3.2), "fence": rng.uniform(1.5, 2.5), "hedge": rng.uniform(1.2, 2.4)}[kind]
    )
    boundaries.append(Boundary(kind, start, end, height))


def _side_pieces(
    stage: Stage, rng: np.random.Generator, sign: int, side: Side, boundaries: list[Boundary]
) -> list[tuple[float, Callable[[], None]]]:
    pieces: list[tuple[float, Callable[[], None]]] = []
    share = float(rng.choice([0.85, 0.55, 0.25], p=[0.5, 0.3, 0.2]))
    leaf = LEAVES[int(rng.integers(len(LEAVES)))]
    along = -6.0
    neighbour = (0.0, 0.0)  # height and setback of the building that ends here
    while along < END:
        for start, end in side.openings:
            if start - 1 < along < end:
                along = end
                neighbour = (0.0, 0.0)
        length = float(rng.uniform(9, 22)) * (1.0 if along < 50 else 2.0)
        stop = along + length
        for start, _ in side.openings:
            if along < start < stop:
                stop = start
        if stop - along < 3:
            along = max(stop, along + 1.0)
            continue
        if rng.random() < share:
            fenced = any(boundary.start < stop and boundary.end > along for boundary in boundaries)
            setback = float(rng.uniform(2.5, 5.0)) if fenced else float(rng.uniform(0, 0.8))
            facade = sample_facade(rng)
            exposed = facade.height > neighbour[0] or setback < neighbour[1]
            pieces.append(
                _plan_building(stage, rng, sign, facade, side.frontage + setback, (along, stop), exposed=exposed)
            )
            neighbour = (facade.height, setback)
        else:
            neighbour = (0.0, 0.0)
            pieces += _plan_garden(stage, rng, sign, side.frontage, (along, stop), leaf)
        along = stop
    for boundary in boundaries:
        pieces += _plan_boundary(stage, rng, sign, side.frontage, boundary, leaf)
    return pieces


def _plan_building(
    stage: Stage,
    rng: np.random.Generator,
    sign: int,
    facade: Facade,
    lateral: float,
    interval: tuple[float, float],
    *,
    exposed: bool,
) -> tuple[float, Callable[[], None]]:
    depth = float(rng.uniform(9, 14)) * sign
    near, far = stage.point(sign * lateral, interval[0]), stage.point(sign * lateral, interval[1])
    corners = np.array([near, far, (far[0] + depth, far[1]), (near[0] + depth, near[1])])
    stage.shadows.append((corners, facade.height))
    detail = fork(rng)
    return interval[1] + 4.0, lambda: draw_building(stage.canvas, detail, facade, near, far, depth, exposed=exposed)


def _plan_garden(
    stage: Stage, rng: np.random.Generator, sign: int, lateral: float, interval: tuple[float, float], leaf: Rgb
) -> list[tuple[float, Callable[[], None]]]:
    pieces: list[tuple[float, Callable[[], None]]] = []
    start, end = interval
    back = lateral + float(rng.uniform(9, 16))
    row = [stage.point(sign * back, s) for s in _spaced(max(3.0, start), end, 3.8)]
    if row and start < 75:
        detail = fork(rng)
        height = float(rng.uniform(2.5, 6.0))
        pieces.append((end + 12.0, lambda: draw_hedge(stage.canvas, detail, row, height, leaf)))
    for _ in range(int(rng.integers(1, 4)) if start < 75 else 1):
        along = float(rng.uniform(max(4.0, start), max(5.0, end)))
        pose = stage.pose(sign * (lateral + float(rng.uniform(2.0, 8.0))), along)
        height = float(rng.uniform(6, 13))
        tree_rng = fork(rng)
        stage.shadows.append(
            (np.array([(pose.x + a, pose.z + b) for a, b in ((-2, -2), (2, -2), (2, 2), (-2, 2))]), height)
        )
        pieces.append((along + 3.0, partial(draw_tree, stage.canvas, tree_rng, pose, height, leaf)))
    return pieces


def _spaced(start: float, end: float, step: float) -> list[float]:
    """Return positions from start to end with growing gaps, because distant bushes look dense at a larger spacing."""
    places = [start]
    while places[-1] < end:
        places.append(places[-1] + max(step, 0.07 * places[-1]))
    return places[:-1]


def _plan_boundary(
    stage: Stage, rng: np.random.Generator, sign: int, lateral: float, boundary: Boundary, leaf: Rgb
) -> list[tuple[float, Callable[[], None]]]:
    pieces: list[tuple[float, Callable[[], None]]] = []
    lateral -= 0.15
    if boundary.kind == "hedge":
        row = [stage.point(sign * lateral, s) for s in _spaced(boundary.start, boundary.end, 1.5)]
        detail = fork(rng)
        return [(boundary.start - 2, lambda: draw_hedge(stage.canvas, detail, row, boundary.height, leaf))]
    step = 7.0
    cuts = [*np.arange(boundary.start, boundary.end - 2.5, step).tolist(), boundary.end]
    wall_style = str(rng.choice(WALL_STYLES))
    fence_style = str(rng.choice(FENCE_STYLES, p=[0.4, 0.25, 0.22, 0.13]))
    wall_colour = sample_wall_colour(rng, wall_style)
    palette = FENCE_COLOURS[fence_style]
    fence_colour = palette[int(rng.integers(len(palette)))]
    height = min(boundary.height, 1.15) if fence_style == "barrier" and boundary.kind == "fence" else boundary.height
    for start, end in pairwise(cuts):
        near, far = stage.point(sign * lateral, float(start)), stage.point(sign * lateral, float(end))
        draw: Callable[[], None]
        if boundary.kind == "wall":
            draw = partial(draw_wall, stage.canvas, fork(rng), wall_style, wall_colour, near, far, height)
        else:
            draw = partial(draw_fence, stage.canvas, fence_style, fence_colour, near, far, height)
        stage.shadows.append((np.array([near, far, (far[0] + 0.2, far[1]), (near[0] + 0.2, near[1])]), height))
        pieces.append((float(start) - 2.0, draw))
    return pieces
