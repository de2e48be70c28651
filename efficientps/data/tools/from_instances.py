"""Convert COCO instance annotations, with an optional semantic map for the background, to COCO panoptic annotations.

Instances may overlap, and segments may not: where instances overlap, a rule decides which one is visible.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from efficientps.atomic_file import atomic_file
from efficientps.data.formats.annotation_file import read_document
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.coco_instances import InstanceFile, read_instance_categories
from efficientps.data.formats.coco_segmentation import decode_segmentation
from efficientps.data.formats.id_map import write_id_map
from efficientps.data.formats.label_map import read_label_map
from efficientps.data.formats.panoptic_json import write_panoptic_json
from efficientps.data.formats.safe_path import inside
from efficientps.data.problems import ProblemsError
from efficientps.data.tools.overlap import Instance, Overlap, paint_instances
from efficientps.structures.categories import Categories, Category

PathLike: TypeAlias = str | os.PathLike[str]

_STUFF_COLOR = (110, 110, 110)


class Conversion(NamedTuple):
    """Result for one image.

    Attributes:
        entry: what the panoptic file says of the image.
        hidden: number of instances that others hide, and which have no segment.
        empty: number of instances that cover no pixel of the image.
        crowds: number of annotations that are crowd regions of a thing class.
    """

    entry: PanopticEntry
    hidden: int
    empty: int
    crowds: int


def convert_instances(
    instances: InstanceFile,
    output: Path,
    *,
    semantic_root: PathLike | None = None,
    stuff_file: PathLike | None = None,
    void: int = 255,
    background: str | None = None,
    overlap: Overlap = "smaller",
    skip_invalid: bool = False,
    crowds_as_instances: bool = False,
) -> Iterator[Conversion]:
    """Write ``output/panoptic.json`` and ``output/panoptic/*.png``, image by image.

    Classes of the instance file are things, unless they say ``isthing: 0``.

    Args:
        instances: the instance file, as ``read_instances`` gives it.
        output: folder of the result; is created.
        semantic_root: folder of the semantic maps of the background, ``<name of the image>.png``.
        stuff_file: JSON whose ``categories`` are the further classes of these maps.
        void: value of the maps that means void; 0 means void, too, unless ``stuff_file`` has a class 0.
        background: name of a further class for all pixels without another class; without it they are void.
        overlap: which of two overlapping instances is visible, see ``paint_instances``.
        skip_invalid: whether unusable annotations are left out; by default they are an error.
        crowds_as_instances: whether annotations that say ``iscrowd: 1`` are taken as single instances.

    Yields:
        What became of each image, after its map is written; the JSON follows the last one.

    Raises:
        ProblemsError: if the file has unusable annotations, unless ``skip_invalid``.
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged or not of the format, or ``output`` holds a result already.
    """
    json_file = output / "panoptic.json"
    if json_file.exists():
        raise ValueError(f"'{json_file}' exists already; choose another folder, or delete it.")
    if instances.problems and not skip_invalid:
        raise ProblemsError(
            f"{len(instances.problems)} of {instances.total} annotations of '{instances.path}' cannot be used; the "
            f"first: {next(iter(instances.problems))}",
            instances.problems,
        )
    categories = list(instances.categories)
    stuff: list[Category] = []
    if stuff_file is not None:
        stuff = read_instance_categories(stuff_file, read_document(stuff_file).head, is_thing=False)
        categories += stuff
    void_values = {void} if any(category.label_id == 0 for category in stuff) else {void, 0}
    background_id = max((category.label_id for category in categories), default=0) + 1
    if background is not None:
        categories.append(Category(background_id, background, _STUFF_COLOR, is_thing=False))
    known = {category.label_id for category in categories}
    if len(known) < len(categories) or len({category.name for category in categories}) < len(categories):
        raise ValueError(f"Two of the classes of '{instances.path}' and what was added have one id or one name.")
    try:
        Categories(sorted(categories, key=lambda category: (category.is_thing, category.label_id)))
    except ValueError as error:  # nothing would read the result
        raise ValueError(f"Annotation file '{instances.path}': {error}") from None
    things = frozenset(category.label_id for category in categories if category.is_thing)
    (output / "panoptic").mkdir(parents=True, exist_ok=True)
    entries = []
    for image_id, (file_name, size) in instances.images.items():
        painted = [
            Instance(item.category_id, decode_segmentation(item.segmentation, size), item.is_crowd)
            for item in instances.annotations[image_id]
        ]
        if crowds_as_instances:
            painted = [instance._replace(is_crowd=False) for instance in painted]
        behind = np.full(size, -1, dtype=np.int64)
        if semantic_root is not None:
            map_file = Path(inside(semantic_root, file_name, instances.path)).with_suffix(".png")
            behind = _read_semantic_map(map_file, size, void_values, known)
        if background is not None:
            behind[behind < 0] = background_id
        segment_ids, segments = paint_instances(size, painted, overlap=overlap, things=things, behind=behind)
        map_name = f"{image_id}.png"
        with atomic_file(output / "panoptic" / map_name) as temporary:
            write_id_map(temporary, segment_ids)
        entries.append(PanopticEntry(image_id, map_name, tuple(segments), file_name, size))
        counted = [item for item in painted if item.category_id in things and not item.is_crowd]
        empty = sum(not item.mask.any() for item in counted)
        shown = sum(segment.category_id in things and not segment.is_crowd for segment in segments)
        crowds = sum(item.category_id in things and item.is_crowd for item in painted)
        yield Conversion(entries[-1], hidden=len(counted) - empty - shown, empty=empty, crowds=crowds)
    write_panoptic_json(json_file, entries, categories)


def _read_semantic_map(path: Path, size: tuple[int, int], void: set[int], known: set[int]) -> NDArray[np.int64]:
    """Read the class of each pixel, -1 where it is void."""
    values = read_label_map(path, noun="Semantic map", size=size)
    values[np.isin(values, list(void))] = -1
    if unknown := set(np.unique(values).tolist()) - {-1} - known:
        raise ValueError(f"Semantic map '{path}' has pixels of the class {min(unknown)}, which no file names.")
    return values
