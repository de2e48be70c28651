"""Split a COCO panoptic JSON file in two by images, every class in proportion."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from efficientps.atomic_file import atomic_file
from efficientps.data.formats.annotation_file import RawDocument, decode, read_document
from efficientps.data.formats.coco_categories import categories_of
from efficientps.data.formats.coco_json import entries_of


class ClassShare(NamedTuple):
    """Number of images of a class in each part."""

    name: str
    train: int
    val: int


def split_annotations(
    source: str | os.PathLike[str],
    train: str | os.PathLike[str],
    val: str | os.PathLike[str],
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
) -> list[ClassShare]:
    """Split the annotations of a file by image; the images and maps stay where they are, for both.

    Entries of one image file stay together. Everything else of the document, its classes above all, goes to both.

    Args:
        source: COCO panoptic JSON.
        train: file for the larger part.
        val: file for the smaller part.
        val_fraction: share of the images of each class that ``val`` gets, between 0 and 1.
        seed: seed of the choice between images that fit equally well.
        overwrite: whether the two files may exist already.

    Returns:
        The number of images of each class in both parts.

    Raises:
        FileNotFoundError: if the source does not exist.
        FileExistsError: if a file would be overwritten.
        ValueError: if it is not of the format, or holds fewer than two images.
    """
    document = read_document(source)
    file = decode(document)
    categories = categories_of(file.head, source)
    table = entries_of(file, categories)
    if len({os.path.realpath(path) for path in (source, train, val)}) < 3:
        raise ValueError(f"'{source}', '{train}' and '{val}' must be three different files.")
    for path in (train, val):
        if os.path.exists(path) and not overwrite:
            raise FileExistsError(f"'{path}' exists already; give another name, or allow it to be overwritten.")
    names = [os.path.normpath(name) for name in table.image_names]
    number = {name: position for position, name in enumerate(sorted(set(names)))}
    classes: list[set[int]] = [set() for _ in number]
    segments = table.segments
    for row, name in enumerate(names):
        classes[number[name]].update(segments.category_ids[segments.offsets[row] : segments.offsets[row + 1]].tolist())
    chosen = stratified_choice(classes, fraction=val_fraction, seed=seed)
    chosen_names = {name for name, position in number.items() if position in chosen}
    in_val = [name in chosen_names for name in names]
    image_in_val = [os.path.normpath(name) in chosen_names for name in file.image_names]
    for path, wanted in ((val, True), (train, False)):
        _write_part(path, document, image_in_val, in_val, wanted=wanted)
    images_of: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for position, found in enumerate(classes):
        images_of[position in chosen].update(found)
    return [
        ClassShare(category.name, images_of[False][category.label_id], images_of[True][category.label_id])
        for category in categories
    ]


def stratified_choice(classes: Sequence[Iterable[int]], *, fraction: float, seed: int) -> set[int]:
    """Choose about a fraction of the images, and of the images of every class.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, Algorithm 1) for two parts: the class
    with the fewest images left goes first; each of its images goes to the part that lacks most of it. Of a class with
    two images or more, each part wants at least one.

    Args:
        classes: the classes in each image.
        fraction: share of the images to choose, between 0 and 1.
        seed: seed of the choice between images that fit equally well.

    Returns:
        The positions of the chosen images; at least one, and not all.

    Raises:
        ValueError: if there are fewer than two images, or the fraction is not between 0 and 1.

    >>> sorted(stratified_choice([{1}, {1}, {1}, {1}, {2}, {2}], fraction=0.5, seed=0))
    [1, 2, 4]
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The fraction of images for validation is {fraction}; give one between 0 and 1.")
    if len(classes) < 2:
        raise ValueError(f"There is nothing to split: {len(classes)} image file.")
    left = {int(position): set(classes[position]) for position in np.random.default_rng(seed).permutation(len(classes))}
    wanted_images = np.array([1 - fraction, fraction]) * len(classes)
    counts = Counter(label for found in left.values() for label in found)
    wanted = {label: _wanted(count, fraction) for label, count in counts.items()}
    chosen: set[int] = set()
    while left:
        remaining = Counter(label for found in left.values() for label in found)
        rarest = min(remaining, key=lambda label: (remaining[label], label), default=None)
        for position in [image for image, found in left.items() if rarest is None or rarest in found]:
            lacking = wanted_images if rarest is None else wanted[rarest]
            side = int(lacking[1] > lacking[0] or (lacking[1] == lacking[0] and wanted_images[1] > wanted_images[0]))
            wanted_images[side] -= 1
            for label in left.pop(position):
                wanted[label][side] -= 1
            if side:
                chosen.add(position)
    if not chosen:
        chosen.add(0)
    if len(chosen) == len(classes):
        chosen.discard(0)
    return chosen


def _wanted(count: int, fraction: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return how many of a class' images each part wants, train first."""
    val = min(max(fraction * count, 1.0), count - 1.0) if count > 1 else 0.0
    return np.array([count - val, val])


def _write_part(
    path: str | os.PathLike[str],
    document: RawDocument,
    images: Sequence[bool],
    annotations: Sequence[bool],
    *,
    wanted: bool,
) -> None:
    """Write a document with those elements only whose flags are as wanted; their text stays as it is."""
    flags = {"images": (document.images, images), "annotations": (document.annotations, annotations)}
    with atomic_file(path, concurrent=True) as temporary, temporary.open("wb") as file:
        for position, (name, value) in enumerate(document.head.items()):
            file.write(b"{" if position == 0 else b", ")
            file.write(json.dumps(name).encode() + b": ")
            if name not in flags:
                file.write(json.dumps(value).encode())
                continue
            chosen = (bytes(raw) for raw, flag in zip(*flags[name], strict=True) if flag == wanted)
            file.write(b"[")
            for place, element in enumerate(chosen):
                file.write(b", " + element if place else element)
            file.write(b"]")
        file.write(b"}")
