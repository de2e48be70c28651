"""A data set in the COCO panoptic format with as many images and segments as asked for, and little content."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = [{"id": number, "name": f"class {number}", "isthing": int(number > 53)} for number in range(1, 134)]
"""As many classes of stuff and of things as COCO panoptic has."""

_SIDE = 32
"""Height and width of all images in pixels, so that no image has more segments than rows."""

_KINDS = 8
"""Different images with the same number of segments; all others are hard links to them."""


def write_annotation_set(root: Path, *, images: int, segments: int) -> Path:
    """Write ``train.json`` and folders ``images`` and ``maps`` with a file for each entry; return the JSON file.

    Args:
        root: an empty folder.
        images: number of images.
        segments: number of segments, spread evenly over the images.

    Raises:
        ValueError: if an image would have no segment, or more than one in each row of pixels.
        OSError: if the files cannot be written; a file system without hard links is one reason.
    """
    if images < 1 or not images <= segments <= _SIDE * images:
        raise ValueError(f"{segments} segments in {images} images are not 1 to {_SIDE} in each.")
    rng = np.random.default_rng(0)
    for folder in ("images", "maps", "kinds"):
        (root / folder).mkdir(parents=True)
    counts = np.full(images, segments // images)
    counts[: segments - counts.sum()] += 1
    kinds = {
        (count, kind): _write_kind(root / "kinds" / f"{count}_{kind}", count, rng)
        for count in np.unique(counts).tolist()
        for kind in range(_KINDS)
    }
    entries, annotations = [], []
    for number, count in enumerate(counts.tolist()):
        name, kind = f"{number:012d}", number % _KINDS
        os.link(root / "kinds" / f"{count}_{kind}.jpg", root / "images" / f"{name}.jpg")
        os.link(root / "kinds" / f"{count}_{kind}.png", root / "maps" / f"{name}.png")
        entries.append({"id": number, "file_name": f"{name}.jpg", "height": _SIDE, "width": _SIDE, "license": 1})
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": kinds[count, kind]})
    path = root / "train.json"
    path.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": CLASSES}))
    return path


def _write_kind(stem: Path, count: int, rng: np.random.Generator) -> list[dict[str, object]]:
    """Write an image of noise and its map of horizontal stripes; return the segments."""
    ids = np.sort(rng.choice(np.arange(1, 256**3), count, replace=False))
    stripes = ids[np.arange(_SIDE) * count // _SIDE]
    pixels = np.repeat(np.stack([stripes & 255, stripes >> 8 & 255, stripes >> 16], axis=-1)[:, None], _SIDE, axis=1)
    Image.fromarray(pixels.astype(np.uint8)).save(stem.with_suffix(".png"))
    Image.fromarray(rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)).save(stem.with_suffix(".jpg"))
    labels = rng.choice(len(CLASSES), count, replace=False).tolist()
    segments = []
    for value, label in zip(ids.tolist(), labels, strict=True):
        rows = np.flatnonzero(stripes == value)
        box = [0, int(rows[0]), _SIDE, len(rows)]
        found = {"id": value, "category_id": CLASSES[label]["id"], "iscrowd": 0, "bbox": box, "area": len(rows) * _SIDE}
        segments.append(found)
    return segments
