"""Writes procedural yards as a data set in the COCO panoptic format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from efficientps.data.entries import SegmentEntry
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.id_map import MAX_SEGMENT_ID, write_id_map
from efficientps.data.formats.panoptic_json import write_panoptic_json
from efficientps.data.formats.segment_measures import measure_segments
from efficientps.synthetic.yards.scene import MIN_SIDE, YARD_CATEGORIES, YardScene, render_yard

MARKER = "yard.json"
"""File in the root that records the arguments of the data set."""

ANNOTATIONS = "panoptic.json"

_SHAPES = ((3, 4), (4, 3), (9, 16), (1, 1), (16, 9))
"""Ratios of height to width of the images."""


def write_synthetic_yard(root: Path, *, num_images: int = 120, size: int = 320, seed: int = 0) -> Iterator[int]:
    """Write ``root/images``, ``root/panoptic`` and ``root/panoptic.json``, image by image.

    Images have many sizes and shapes; most are JPEG, the others PNG, grey or with an alpha channel. Image ids are
    numbers with gaps; segment ids use all three bytes. If the folder holds a finished data set of the given arguments,
    nothing is written; an interrupted data set is written again.

    Args:
        root: folder of the data set; is created.
        num_images: how many.
        size: longest side of the largest images, pixels; others are down to 0.6 of it.
        seed: seed of the whole data set.

    Yields:
        The number of images that are done, after each.

    Raises:
        ValueError: if the folder holds something else, or an argument is out of range.
    """
    smallest = round(MIN_SIDE * 16 / 9 / 0.6) + 1
    if num_images < 1 or seed < 0 or not smallest <= size <= 8192:
        raise ValueError(
            f"num_images is {num_images}, size {size} and seed {seed}; give at least one image, a size within "
            f"{smallest}..8192 and a seed of at least 0."
        )
    recipe = {"num_images": num_images, "size": size, "seed": seed, "generator": 1}
    marker = root / MARKER
    if root.exists() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        if not marker.is_file() or json.loads(marker.read_text()) != recipe:
            raise ValueError(
                f"'{root}' is not empty and does not hold the same synthetic yard; choose another folder, or delete it."
            )
        if (root / ANNOTATIONS).is_file():
            yield num_images
            return
    for folder in (root / "images", root / "panoptic"):
        folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(recipe) + "\n")
    entries = []
    for index in range(num_images):
        entries.append(_write_image(root, index, size, np.random.default_rng((seed, index))))
        yield index + 1
    write_panoptic_json(root / ANNOTATIONS, entries, YARD_CATEGORIES)


def _write_image(root: Path, index: int, size: int, rng: np.random.Generator) -> PanopticEntry:
    shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
    longest = size * rng.uniform(0.6, 1.0) / max(shape)
    scene = render_yard(int(rng.integers(2**63)), (round(shape[0] * longest), round(shape[1] * longest)))
    name = f"{'north' if index % 2 else 'south'}/yard_{index:05d}"
    image_file_name = f"{name}{_write_picture(root / 'images' / name, scene, rng)}"
    ids = np.zeros(len(scene.label_ids) + 1, dtype=np.int32)
    ids[1:] = rng.choice(MAX_SEGMENT_ID, len(scene.label_ids), replace=False) + 1
    write_id_map(root / "panoptic" / f"yard_{index:05d}.png", ids[scene.segment_ids])
    _, areas, boxes = measure_segments(scene.segment_ids, range(1, len(ids)))
    segments = tuple(
        SegmentEntry(int(segment_id), label_id, is_crowd=crowd, area=area, bbox=box)
        for segment_id, label_id, crowd, area, box in zip(
            ids[1:], scene.label_ids, scene.crowds, areas, boxes, strict=True
        )
    )
    height, width = scene.segment_ids.shape
    return PanopticEntry(str(3 * index + 100), f"yard_{index:05d}.png", segments, image_file_name, (height, width))


def _write_picture(stem: Path, scene: YardScene, rng: np.random.Generator) -> str:
    """Write the image as one of several file types and return its file extension."""
    stem.parent.mkdir(exist_ok=True)
    picture = Image.fromarray(scene.image)
    kind = rng.random()
    if kind < 0.6:
        picture.save(f"{stem}.jpg", quality=92)
        return ".jpg"
    if kind < 0.8:
        picture = picture.convert("L")
    else:
        picture.putalpha(255)
    picture.save(f"{stem}.png")
    return ".png"
