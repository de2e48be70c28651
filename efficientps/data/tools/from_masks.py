"""Convert masks, images of classes and of instance numbers, to COCO panoptic annotations.

A pixel is void if its class is one of the void values, or 0 where no class has this id. Pixels of a thing class without
an instance become one crowd region of the class, or void. Pixels of a stuff class are one segment, whatever their
numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from efficientps.atomic_file import atomic_file
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.id_map import write_id_map
from efficientps.data.formats.image_file import image_size, open_image
from efficientps.data.formats.panoptic_json import write_panoptic_json
from efficientps.data.problems import Problem, Problems, ProblemsError
from efficientps.data.tools.in_order import in_order
from efficientps.data.tools.masks import MaskFiles, MaskKind, MaskRules, Source, read_masks
from efficientps.data.tools.segments_of_masks import NO_CLASS, LabelMap, components, segments_of_masks
from efficientps.structures.categories import Categories

_SERIAL = 64
"""So few images are converted in this process: others take seconds to start."""

_NAMED = 5
"""Classes that a message names."""


class MaskConversion(NamedTuple):
    """Result for one image: what the panoptic file says of it, or why it cannot be converted."""

    entry: PanopticEntry | None
    problems: tuple[Problem, ...] = ()


def convert_masks(
    files: MaskFiles,
    categories: Categories,
    output: Path,
    *,
    rules: MaskRules | None = None,
    skip_invalid: bool = False,
    workers: int = 1,
) -> Iterator[MaskConversion]:
    """Write ``output/panoptic.json`` and ``output/panoptic/*.png``, image by image.

    Each file appears whole or not at all, and the JSON file last, so that an interrupted run leaves none.

    Args:
        files: where images and masks lie.
        categories: the classes, whose label ids are the values of the masks.
        output: folder of the result; is created.
        rules: what the values mean.
        skip_invalid: whether images that cannot be converted are left out; by default they are an error.
        workers: number of processes; 1 converts in this one.

    Yields:
        What became of each image, in sorted order; the JSON file follows the last one.

    Raises:
        FileNotFoundError: if there is no image.
        ProblemsError: after the last image, if one could not be converted, unless ``skip_invalid``; before the
            first, if masks are missing.
        ValueError: if ``output`` holds a result already, no image is left, or ``rules`` contradict the classes.
        BrokenExecutor: if a process was killed.
    """
    json_file = output / "panoptic.json"
    if json_file.exists():
        raise ValueError(f"'{json_file}' exists already; choose another folder, or delete it.")
    rules = rules or MaskRules()
    rules.void_values(categories)
    sources = files.sources()
    problems = Problems(
        Problem("mask that does not exist", str(source.image), text=f"Image '{source.image}' has no mask '{mask}'.")
        for source in sources
        for mask in source.masks
        if not mask.is_file()
    )
    if problems and not skip_invalid:
        raise _refusal(problems, len(sources))
    (output / "panoptic").mkdir(parents=True, exist_ok=True)
    entries = []
    convert = partial(_convert, files.kind, categories, rules, output / "panoptic")
    processes = workers if len(sources) > _SERIAL else 1
    with closing(in_order(convert, sources, workers=processes, writes=True)) as conversions:
        for conversion in conversions:
            if conversion.entry is not None:
                entries.append(conversion.entry)
            else:
                problems.extend(conversion.problems)
            yield conversion
    if problems and not skip_invalid:
        raise _refusal(problems, len(sources))
    if not entries:
        raise ProblemsError(f"None of the {len(sources)} images can be converted.", problems)
    write_panoptic_json(json_file, entries, categories)


def _refusal(problems: Problems, images: int) -> ProblemsError:
    return ProblemsError(
        f"{len(problems)} problems in the masks of {images} images; the first: {next(iter(problems))}", problems
    )


def _convert(kind: MaskKind, categories: Categories, rules: MaskRules, folder: Path, source: Source) -> MaskConversion:
    """Convert one image, and write its map."""
    things = frozenset(category.label_id for category in categories if category.is_thing)
    known = [category.label_id for category in categories]
    try:
        with open_image(source.image) as image:
            size = image_size(image, upright=rules.upright)
        void = rules.void_values(categories)
        classes, numbers = read_masks(source, kind, size, void=void, divisor=rules.divisor)
    except (ValueError, OSError) as error:
        return MaskConversion(None, (Problem.of(error),))
    unlisted = ~np.isin(classes, [NO_CLASS, *known])
    if unlisted.any() and not rules.unlisted_is_void:
        return MaskConversion(None, (_unlisted(source.masks[0], classes[unlisted]),))
    classes[unlisted] = NO_CLASS
    if kind == "components":
        numbers = components(classes, things, min_area=rules.min_area)
    segment_ids, segments = segments_of_masks(classes, numbers, things=things, uncounted=rules.uncounted)
    map_name = f"{source.image_id}.png"
    try:
        with atomic_file(folder / map_name) as temporary:
            write_id_map(temporary, segment_ids)
    except ValueError as error:  # more segments than three bytes number
        return MaskConversion(None, (Problem.of(error),))
    return MaskConversion(PanopticEntry(source.image_id, map_name, tuple(segments), source.file_name, size))


def _unlisted(mask: Path, values: LabelMap) -> Problem:
    """Return the problem of pixels whose classes the table lacks."""
    found = np.unique(values).tolist()
    names = ", ".join(map(str, found[:_NAMED])) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    fault = "pixels of classes that the table of classes lacks"
    remedy = (
        "values from 1000 on are instances in masks of the kind of Cityscapes' instanceIds; read them as such"
        if found[-1] >= 1000
        else "add these classes to the table, or say that they are void"
    )
    return Problem(fault, str(mask), remedy, f"Mask '{mask}' has {len(values)} {fault}: {names}.")
