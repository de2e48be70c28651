"""Places vehicles and riders in the scene, driving or parked."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import numpy as np

from efficientps.synthetic.streets.camera import Pose
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.figures import draw_parts
from efficientps.synthetic.streets.ground import LANE
from efficientps.synthetic.streets.heavy_vehicles import bus, truck
from efficientps.synthetic.streets.labels import BICYCLE, BUS, CAR, MOTORCYCLE, RIDER, TRAIN, TRUCK
from efficientps.synthetic.streets.lanes import Lanes
from efficientps.synthetic.streets.stage import Stage
from efficientps.synthetic.streets.trams import TRAM_LIVERIES, tram_module
from efficientps.synthetic.streets.two_wheelers import bicycle, motorcycle
from efficientps.synthetic.streets.vehicles import Vehicle, car

LABELS: dict[Callable[[np.random.Generator], Vehicle], int] = {car: CAR, truck: TRUCK, bus: BUS}


def add_traffic(stage: Stage, rng: np.random.Generator) -> None:
    """Put vehicles on the stage: trams, buses, lorries, two-wheelers, then cars on the free stretches of the lanes."""
    lanes = Lanes()
    street = stage.street
    # (lateral, heading): driving lanes in both directions.
    own = [0.0] + ([LANE] if street.right.kerb - street.right.parking > LANE * 1.2 else [])
    oncoming = [-LANE] + ([-2 * LANE] if street.left.kerb - street.left.parking > LANE * 2 else [])
    if rng.random() < 0.45:
        _tram(stage, rng, lanes, own, oncoming)
    for builder, chance in ((bus, 0.47), (truck, 0.58)):
        if rng.random() < chance:
            for _ in range(1 if rng.random() < 0.85 else 2):
                _large(stage, rng, lanes, builder, own, oncoming)
    if street.left.openings and street.right.openings and rng.random() < 0.55:
        _crossing(stage, rng, lanes, own + oncoming)
    _two_wheelers(stage, rng, lanes, own, oncoming)
    _parked(stage, rng, lanes)
    for lateral in own + oncoming:
        for _ in range(int(rng.integers(0 if lateral != -LANE else 1, 4))):
            first = 9.0 if lateral == 0.0 else 5.0
            _drive(stage, rng, lanes, car, lateral, (first, 48.0), lateral < -0.1)


def _put(stage: Stage, vehicle: Vehicle, label_id: int, place: tuple[float, float, float]) -> None:
    canvas = stage.canvas
    owner = canvas.instance(label_id)
    stage.add(place, (vehicle.width, vehicle.length, vehicle.height), lambda pose: vehicle.draw(canvas, pose, owner))


def _drive(
    stage: Stage,
    rng: np.random.Generator,
    lanes: Lanes,
    builder: Callable[[np.random.Generator], Vehicle],
    lateral: float,
    reach: tuple[float, float],
    reverse: bool,
) -> bool:
    vehicle = builder(rng)
    along = lanes.take(rng, lateral, vehicle.length, reach)
    if along is None:
        return False
    heading = (pi if reverse else 0.0) + float(rng.normal(0, 0.025))
    _put(stage, vehicle, LABELS[builder], (lateral + float(rng.normal(0, 0.15)), along, heading))
    return True


def _large(
    stage: Stage,
    rng: np.random.Generator,
    lanes: Lanes,
    builder: Callable[[np.random.Generator], Vehicle],
    own: list[float],
    oncoming: list[float],
) -> None:
    """Place a bus or a lorry at a clearly visible position: in a lane, or halted at the kerb."""
    street = stage.street
    options = [(0.0, (10.0, 26.0), False), (oncoming[0], (7.0, 24.0), True)]
    if len(own) > 1:
        options += [(own[1], (7.0, 22.0), False)] * 2
    if street.right.parking and not street.right.openings:
        options.append((street.right.kerb - 1.25, (8.0, 22.0), False))
    if len(oncoming) > 1:
        options.append((oncoming[1], (12.0, 26.0), True))
    elif street.left.parking and not street.left.openings:
        options.append((-(street.left.kerb - 1.25), (12.0, 26.0), True))
    for index in rng.permutation(len(options)):
        lateral, reach, reverse = options[int(index)]
        if _drive(stage, rng, lanes, builder, lateral, reach, reverse):
            return


def _tram(stage: Stage, rng: np.random.Generator, lanes: Lanes, own: list[float], oncoming: list[float]) -> None:
    """Lay tracks and put a tram of two or three modules on them."""
    ahead = rng.random() < 0.4
    lateral = (own[-1] if rng.random() < 0.5 else own[0]) if ahead else oncoming[0]
    stage.street.tram_tracks += [lateral] if rng.random() < 0.4 else sorted({own[0], oncoming[0], lateral})
    livery = TRAM_LIVERIES[int(rng.integers(len(TRAM_LIVERIES)))]
    count, length = int(rng.integers(2, 4)), 8.0
    middle = lanes.take(rng, lateral, count * length, (10.0 if lateral == 0 else 8.0, 24.0))
    if middle is None:
        return
    canvas = stage.canvas
    owner = canvas.instance(TRAIN)
    for k in range(count):
        along = middle + (k - (count - 1) / 2) * length
        first, last = k == 0, k == count - 1
        nose, tail = (last, first) if ahead else (first, last)
        module = tram_module(rng, livery, length, nose=nose, tail=tail)

        def draw(pose: Pose, module: Vehicle = module) -> None:
            module.draw(canvas, pose, owner)

        stage.add((lateral, along, 0.0 if ahead else pi), (module.width, length, module.height), draw)


def _crossing(stage: Stage, rng: np.random.Generator, lanes: Lanes, laterals: list[float]) -> None:
    """Place a vehicle that crosses the junction, seen from the side."""
    start, end = stage.street.left.openings[0]
    builder = (car, car, truck, bus)[int(rng.integers(4))]
    vehicle = builder(rng)
    along = (start + end) / 2 + float(rng.uniform(-1, 1))
    direction = 1 if rng.random() < 0.5 else -1
    lateral = float(rng.uniform(-0.45, 0.45)) * (along + 4.0)
    for lane in laterals:
        lanes.block(lane, along - 2.5, along + 2.5)
    _put(stage, vehicle, LABELS[builder], (lateral, along, direction * pi / 2 + float(rng.normal(0, 0.05))))


def _parked(stage: Stage, rng: np.random.Generator, lanes: Lanes) -> None:
    """Fill the parking lanes with rows of cars; a distant dense row may become a crowd region."""
    street = stage.street
    for sign, side in ((-1, street.left), (1, street.right)):
        if not side.parking:
            continue
        lateral = sign * (side.kerb - 1.15)
        key = sign * (side.kerb - 1.25)
        density = rng.uniform(0.35, 0.95)
        along = float(rng.uniform(-1.0, 5.0)) + (3.0 if sign < 0 else 1.5)
        while along < 46:
            if rng.random() > density:
                along += 5.5
                continue
            vehicle = car(rng)
            middle = along + vehicle.length / 2
            spot = lanes.take(rng, key, vehicle.length, (along, along + 0.01))
            if spot is not None and not side.is_open(middle, vehicle.length / 2 + 1.0):
                heading = (pi if (sign < 0) != (rng.random() < 0.15) else 0.0) + float(rng.normal(0, 0.03))
                _put(stage, vehicle, CAR, (lateral + float(rng.normal(0, 0.08)), middle, heading))
            along += vehicle.length + float(rng.uniform(0.7, 1.6))


def _two_wheelers(
    stage: Stage, rng: np.random.Generator, lanes: Lanes, own: list[float], oncoming: list[float]
) -> None:
    """Put motorcycles and bicycles on the stage, ridden in the lanes or parked at the kerb."""
    street = stage.street
    edge = own[-1] + LANE / 2 - 0.7
    if rng.random() < 0.62:
        for _ in range(1 if rng.random() < 0.7 else 2):
            if rng.random() < 0.62:
                ahead = rng.random() < 0.65
                lateral = float(rng.choice(own)) if ahead else oncoming[0]
                along = lanes.take(rng, lateral, 2.2, (6.5, 18.0))
                if along is not None:
                    heading = (0.0 if ahead else pi) + float(rng.normal(0, 0.22))
                    _rider(
                        stage, rng, MOTORCYCLE, (lateral + float(rng.uniform(-0.7, 0.7)), along, heading), ridden=True
                    )
            else:
                _park_two_wheeler(stage, rng, MOTORCYCLE)
    if rng.random() < 0.50:
        for _ in range(1 if rng.random() < 0.6 else 2):
            option = rng.random()
            if option < 0.5:
                along = lanes.take(rng, edge, 2.0, (5.5, 17.0))
                place = (edge + float(rng.uniform(-0.2, 0.2)), along, float(rng.normal(0, 0.2)))
            elif option < 0.72:
                along = lanes.take(rng, oncoming[-1] - 0.9, 2.0, (8.0, 20.0))
                place = (oncoming[-1] - 0.9, along, pi + float(rng.normal(0, 0.2)))
            else:
                along = street.crossings[0] if street.crossings else float(rng.uniform(8, 18))
                along += float(rng.uniform(-1.4, 1.4))
                place = (
                    float(rng.uniform(-0.40, 0.40)) * along,
                    along,
                    float(rng.choice([-1, 1])) * pi / 2 + float(rng.normal(0, 0.2)),
                )
            if along is not None:
                _rider(stage, rng, BICYCLE, (place[0], along, place[2]), ridden=True)
    if rng.random() < 0.42:
        for _ in range(int(rng.integers(1, 4))):
            _park_two_wheeler(stage, rng, BICYCLE)
    if rng.random() < 0.10:
        _bicycle_rack(stage, rng)


def _rider(
    stage: Stage,
    rng: np.random.Generator,
    label_id: int,
    place: tuple[float, float, float],
    *,
    ridden: bool,
    owner: int | None = None,
) -> None:
    canvas = stage.canvas
    parts = (motorcycle if label_id == MOTORCYCLE else bicycle)(rng, ridden=ridden)
    vehicle = canvas.instance(label_id) if owner is None else owner
    rider = canvas.instance(RIDER) if ridden else None

    def draw(pose: Pose, canvas: Canvas = canvas) -> None:
        draw_parts(canvas, pose, parts, vehicle, rider)

    stage.add(place, (0.6, 1.9, 1.7 if ridden else 1.1), draw)


def _park_two_wheeler(stage: Stage, rng: np.random.Generator, label_id: int) -> None:
    street = stage.street
    sign = 1 if rng.random() < 0.6 else -1
    side = street.right if sign > 0 else street.left
    along = float(rng.uniform(side.kerb * 1.5 + 2.5, 20.0 + side.kerb))
    if side.is_open(along, 1.0):
        along = side.openings[0][1] + 1.5
    lateral = side.kerb + side.verge + float(rng.uniform(0.5, max(0.6, side.pavement - 0.7)))
    heading = float(rng.choice([0, pi / 2, -pi / 2, pi])) + float(rng.normal(0, 0.45))
    _rider(stage, rng, label_id, (sign * lateral, along, heading), ridden=False)


def _bicycle_rack(stage: Stage, rng: np.random.Generator) -> None:
    """Put a dense row of bicycles on a pavement, as a crowd region."""
    sign = 1 if rng.random() < 0.5 else -1
    side = stage.street.right if sign > 0 else stage.street.left
    along = float(rng.uniform(side.kerb * 1.6 + 3, 24 + side.kerb))
    if side.is_open(along, 4.0):
        return
    lateral = sign * (side.kerb + side.verge + 0.8)
    for k in range(int(rng.integers(5, 9))):
        heading = pi / 2 + float(rng.normal(0, 0.12))
        _rider(
            stage, rng, BICYCLE, (lateral, along + 0.42 * k, heading), ridden=False, owner=stage.canvas.stuff(BICYCLE)
        )
