"""A procedural street scene: an image as seen through a car's windscreen, and its exact annotation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from efficientps.synthetic.streets.camera import Camera
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.frontage import plan_frontages
from efficientps.synthetic.streets.ground import cast_shadows, paint_ground
from efficientps.synthetic.streets.labels import EGO_VEHICLE, OUT_OF_ROI
from efficientps.synthetic.streets.lighting import sample_light
from efficientps.synthetic.streets.pavement import add_furniture, add_people, add_trees
from efficientps.synthetic.streets.sensor import develop
from efficientps.synthetic.streets.sky import paint_backdrop, paint_sky
from efficientps.synthetic.streets.stage import Stage
from efficientps.synthetic.streets.street import sample_street
from efficientps.synthetic.streets.traffic import add_traffic

SUPERSAMPLING = 2
MIN_SIZE = (64, 128)
MIN_INSTANCE_AREA = 1 / 6500
"""Smallest area of an instance, as a share of the image; a smaller instance becomes part of a crowd."""


@dataclass(frozen=True)
class SyntheticScene:
    """A rendered scene.

    Attributes:
        image: uint8 ``[h, w, 3]``, RGB.
        instance_ids: uint16 ``[h, w]`` in the encoding of Cityscapes' ``instanceIds`` files: ``label_id * 1000 + n``
            for the n-th instance of a thing, ``label_id`` for stuff, crowds of things and void labels.
    """

    image: npt.NDArray[np.uint8]
    instance_ids: npt.NDArray[np.uint16]

    @property
    def label_ids(self) -> npt.NDArray[np.uint8]:
        """Raw Cityscapes label ids, uint8 ``[h, w]``."""
        return np.where(self.instance_ids < 1000, self.instance_ids, self.instance_ids // 1000).astype(np.uint8)


def render_scene(seed: int, size: tuple[int, int]) -> SyntheticScene:
    """Render the scene of a seed; the result is bit for bit reproducible from seed and size.

    Args:
        seed: not negative.
        size: (height, width) in pixels, at least 64 × 128.

    Raises:
        ValueError: if the size is too small or the seed negative.
    """
    height, width = size
    if height < MIN_SIZE[0] or width < MIN_SIZE[1]:
        raise ValueError(
            f"a synthetic scene must be at least {MIN_SIZE[0]} × {MIN_SIZE[1]} pixels, not {height} × {width}"
        )
    if seed < 0:
        raise ValueError(f"the seed of a synthetic scene must not be negative, but is {seed}")
    rngs = [np.random.default_rng([seed, part]) for part in range(9)]
    camera = _sample_camera(rngs[0], size)
    canvas = Canvas(camera, sample_light(rngs[1]))
    stage = Stage(canvas, sample_street(rngs[2]))
    if rngs[0].random() > 0.035:  # otherwise: a street without things
        add_traffic(stage, rngs[3])
        add_people(stage, rngs[4])
    add_trees(stage, rngs[5])
    add_furniture(stage, rngs[5])
    frontages = plan_frontages(stage, rngs[6])
    paint_sky(canvas, rngs[7])
    paint_backdrop(canvas, rngs[7])
    paint_ground(canvas, stage.street, cast_shadows(canvas, stage.shadows))
    for draw in frontages:
        draw()
    stage.paint()
    _add_bonnet(canvas, rngs[8])
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    owner = np.ascontiguousarray(canvas.owner[SUPERSAMPLING // 2 :: SUPERSAMPLING, SUPERSAMPLING // 2 :: SUPERSAMPLING])
    # Before instances are measured and numbered, because the border may hide an instance.
    _add_border(owner, canvas.stuff(OUT_OF_ROI), rngs[8])
    instance_ids = encode_instances(owner, canvas.labels, canvas.countable)
    return SyntheticScene(develop(image, rngs[8]), instance_ids)


def encode_instances(owner: npt.NDArray[np.int32], labels: list[int], countable: list[bool]) -> npt.NDArray[np.uint16]:
    """Turn owners into Cityscapes instance ids, numbering the visible instances of each label from 0 on.

    Instances with less than ``MIN_INSTANCE_AREA`` of the image become crowd.

    Args:
        owner: int32 ``[h, w]``, index into the lists.
        labels: label id of each owner.
        countable: whether each owner is an instance.

    >>> encode_instances(np.array([[1, 1, 2, 4]]), [0, 23, 26, 26, 26], [False, False, True, True, True]).tolist()
    [[23, 23, 26000, 26001]]
    """
    areas = np.bincount(owner.ravel(), minlength=len(labels))
    smallest = owner.size * MIN_INSTANCE_AREA
    codes = np.zeros(len(labels), np.uint16)
    numbers: dict[int, int] = {}
    for index, (label, counted) in enumerate(zip(labels, countable, strict=True)):
        codes[index] = label
        if counted and areas[index] > 0 and areas[index] >= smallest:
            number = numbers.get(label, 0)
            numbers[label] = number + 1
            codes[index] = label * 1000 + number
    return codes[owner]


def _sample_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    return Camera(
        width=width,
        height=height,
        focal=float(rng.uniform(0.88, 1.10)) * (width + 2 * height) / 2,
        horizon=float(rng.uniform(0.40, 0.50)) * height,
        x=float(rng.uniform(-0.3, 0.3)),
        y=float(rng.uniform(1.2, 1.75)),
        yaw=float(rng.normal(0, 0.055)),
    )


def _add_bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """Show the camera car's bonnet at the bottom of one view in three."""
    if rng.random() > 0.34:
        return
    width, height = canvas.camera.width, canvas.camera.height
    rise = float(rng.uniform(0.05, 0.10)) * height
    x = np.linspace(-0.1, 1.1, 41)
    owner = canvas.stuff(EGO_VEHICLE)
    tone = float(rng.uniform(0.05, 0.2))
    for layer in range(5):
        top = height - rise * (1 - layer * 0.2) * (1 - np.abs(2 * x - 1) ** 2.6 * 0.75)
        outline = np.concatenate(
            [np.stack([x * width, top], axis=1), [[1.1 * width, height + 9.0], [-0.1 * width, height + 9.0]]]
        )
        gloss = 0.20 * (1 - layer * 0.22)
        colour = canvas.light.shade((tone, tone, tone * 1.05), (0.0, 1.0, 0.0), 1.0, gloss)
        canvas.fill(outline, colour, owner)


def _add_border(owner: npt.NDArray[np.int32], border: int, rng: np.random.Generator) -> None:
    """Give a thin frame to the owner ``border``, outside the region of interest, in one view in three, in place."""
    if rng.random() > 0.34:
        return
    thick = max(1, round(owner.shape[0] * float(rng.uniform(0.006, 0.014))))
    owner[:, :thick] = owner[:, -thick:] = border
    owner[-thick:] = border
