"""People and objects on the pavements: pedestrians, crowds, trees, lamp posts, traffic lights, signs and clutter."""

from __future__ import annotations

from functools import partial
from math import pi

import numpy as np

from efficientps.synthetic.streets.figures import draw_parts, person
from efficientps.synthetic.streets.furniture import (
    draw_bollard,
    draw_clutter,
    draw_direction_board,
    draw_lamp_post,
    draw_traffic_light,
    draw_traffic_sign,
)
from efficientps.synthetic.streets.ground import Side
from efficientps.synthetic.streets.labels import PERSON
from efficientps.synthetic.streets.stage import Stage, fork
from efficientps.synthetic.streets.vegetation import LEAVES, draw_tree


def _side(stage: Stage, rng: np.random.Generator, right: float = 0.5) -> tuple[int, Side]:
    return (1, stage.street.right) if rng.random() < right else (-1, stage.street.left)


def _visible_from(side: Side, offset: float = 0.0) -> float:
    """Nearest distance along the street at which a pavement enters the view, metres."""
    return (side.kerb + side.verge + offset) * 1.75 + 1.0


def _walker(
    stage: Stage,
    rng: np.random.Generator,
    place: tuple[float, float, float],
    *,
    crowd: bool = False,
    standing: bool | None = None,
) -> None:
    parts, height = person(rng, standing=standing)
    canvas = stage.canvas
    owner = canvas.stuff(PERSON) if crowd else canvas.instance(PERSON)
    stage.add(place, (0.5, 0.5, height), lambda pose: draw_parts(canvas, pose, parts, owner))


def add_people(stage: Stage, rng: np.random.Generator) -> None:
    """Put pedestrians on the pavements and crossings, alone, in pairs, and sometimes as a crowd."""
    for _ in range(int(rng.choice([2, 3, 4, 6, 9], p=[0.14, 0.24, 0.26, 0.22, 0.14]))):
        sign, side = _side(stage, rng)
        along = _visible_from(side) + 20.0 * float(rng.random()) ** 1.5
        lateral = side.kerb + side.verge + float(rng.uniform(0.3, max(0.4, side.pavement - 0.4)))
        heading = (
            float(rng.choice([0.0, pi])) + float(rng.normal(0, 0.3))
            if rng.random() < 0.75
            else float(rng.uniform(-pi, pi))
        )
        for k in range(1 if rng.random() < 0.65 else int(rng.integers(2, 4))):
            _walker(
                stage,
                rng,
                (sign * lateral + 0.55 * k, along + float(rng.normal(0, 0.3)), heading + float(rng.normal(0, 0.15))),
            )
    if rng.random() < 0.60:
        along = stage.street.crossings[0] if stage.street.crossings else float(rng.uniform(8, 20))
        for _ in range(int(rng.integers(1, 4))):
            lateral = float(rng.uniform(-0.5, 0.4)) * along
            lateral = min(max(lateral, -stage.street.left.kerb + 0.3), stage.street.right.kerb - 0.3)
            heading = float(rng.choice([-1, 1])) * pi / 2 + float(rng.normal(0, 0.2))
            _walker(stage, rng, (lateral, along + float(rng.uniform(-1.6, 1.6)), heading), standing=False)
    if rng.random() < 0.13:
        sign, side = _side(stage, rng)
        along = _visible_from(side) + float(rng.uniform(3, 20))
        for _ in range(int(rng.integers(6, 13))):
            lateral = side.kerb + side.verge + float(rng.uniform(0.3, side.pavement))
            _walker(
                stage, rng, (sign * lateral, along + float(rng.normal(0, 1.1)), float(rng.uniform(-pi, pi))), crowd=True
            )


def add_trees(stage: Stage, rng: np.random.Generator) -> None:
    """Plant rows of trees behind the kerbs."""
    for sign, side in ((-1, stage.street.left), (1, stage.street.right)):
        if rng.random() > 0.42:
            continue
        leaf = LEAVES[int(rng.integers(len(LEAVES)))]
        spacing, height = float(rng.uniform(8, 15)), float(rng.uniform(5.5, 10))
        lateral = sign * (side.kerb + max(0.8, side.verge / 2))
        along = float(rng.uniform(8, 16))
        while along < 70:
            if not side.is_open(along, 1.5):
                tall = height * float(rng.uniform(0.85, 1.15))
                draw = partial(draw_tree, stage.canvas, fork(rng), height=tall, leaf=leaf)
                stage.add((lateral, along, 0.0), (0.6, 0.6, tall), draw)
                pose = stage.pose(lateral, along)
                crown = np.array([(pose.x + a, pose.z + b) for a, b in ((-2, -1.5), (2, -1.5), (2, 1.5), (-2, 1.5))])
                stage.shadows.append((crown, tall))
            along += spacing * float(rng.uniform(0.8, 1.25))


def add_furniture(stage: Stage, rng: np.random.Generator) -> None:
    """Put lamp posts, bollards, traffic lights, traffic signs and clutter along the kerbs."""
    canvas = stage.canvas
    for sign, side in ((-1, stage.street.left), (1, stage.street.right)):
        if rng.random() < 0.8:
            height, spacing = float(rng.uniform(5.5, 8.5)), float(rng.uniform(17, 28))
            for along in np.arange(float(rng.uniform(7, 16)), 65, spacing):
                lamp = partial(draw_lamp_post, canvas, fork(rng), height=height)
                if not side.is_open(float(along), 0.5):
                    stage.add((sign * (side.kerb + 0.5), float(along), -sign * pi / 2), (0.25, 0.25, height), lamp)
        if rng.random() < 0.15:
            for along in np.arange(_visible_from(side) + rng.uniform(0, 4), 32, 2.2):
                if not side.is_open(float(along), 0.5):
                    bollard = partial(draw_bollard, canvas, fork(rng))
                    stage.add((sign * (side.kerb + 0.3), float(along), 0.0), (0.2, 0.2, 1.0), bollard)
    _add_signals(stage, rng)
    _add_signs(stage, rng)
    if rng.random() < 0.65:
        for _ in range(int(rng.integers(1, 4))):
            sign, side = _side(stage, rng)
            along = _visible_from(side) + float(rng.uniform(0, 15))
            lateral = side.kerb + side.verge + float(rng.uniform(0.5, max(0.6, side.pavement - 0.5)))
            heading = float(rng.choice([0, pi / 2])) + float(rng.normal(0, 0.1))
            stage.add((sign * lateral, along, heading), (0.8, 0.8, 1.0), partial(draw_clutter, canvas, fork(rng)))


def _add_signals(stage: Stage, rng: np.random.Generator) -> None:
    if rng.random() > 0.66:
        return
    canvas, street = stage.canvas, stage.street
    along = street.crossings[0] - 2.6 if street.crossings and rng.random() < 0.7 else float(rng.uniform(9, 20))
    along = max(along, _visible_from(street.right) + 0.5)
    overhang = float(rng.uniform(2.5, 4.5)) + street.right.parking if rng.random() < 0.4 else 0.0
    places = [(street.right.kerb + 0.5, along, overhang)]
    if rng.random() < 0.6:
        places.append(
            (-(street.left.kerb + 0.5), max(along + float(rng.uniform(0, 3)), _visible_from(street.left)), 0.0)
        )
    if rng.random() < 0.3:
        places.append((street.right.kerb + 0.5, along + float(rng.uniform(12, 25)), 0.0))
    for lateral, s, reach in places:
        signal = partial(draw_traffic_light, canvas, fork(rng), overhang=reach)
        stage.add((lateral, s, float(rng.normal(0, 0.06))), (0.4, 0.4, 3.4), signal)


def _add_signs(stage: Stage, rng: np.random.Generator) -> None:
    canvas = stage.canvas
    for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.08, 0.22, 0.32, 0.24, 0.14]))):
        sign, side = _side(stage, rng, 0.6)
        along = _visible_from(side) + 16.0 * float(rng.random()) ** 1.4
        place = (sign * (side.kerb + 0.45), along, float(rng.normal(0, 0.12)))
        stage.add(place, (0.3, 0.3, 2.8), partial(draw_traffic_sign, canvas, fork(rng)))
    if rng.random() < 0.25:
        sign, side = _side(stage, rng, 0.6)
        along = _visible_from(side) + float(rng.uniform(2, 16))
        place = (sign * (side.kerb + 1.6), along, float(rng.normal(0, 0.08)))
        stage.add(place, (2.4, 0.3, 3.6), partial(draw_direction_board, canvas, fork(rng)))
