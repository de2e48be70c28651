"""Panoptic quality of a folder of predictions, in the COCO panoptic format.

The results equal those of cityscapesscripts and panopticapi.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from efficientps.cli.other_ids import hint_at_other_ids
from efficientps.data.formats.annotation_file import read_annotation_file
from efficientps.data.formats.annotation_table import PanopticEntry
from efficientps.data.formats.coco_categories import categories_of
from efficientps.data.formats.coco_json import entries_of, read_panoptic_json
from efficientps.data.formats.id_map import read_id_map
from efficientps.data.formats.image_file import read_image
from efficientps.data.formats.safe_path import inside
from efficientps.metrics.panoptic_matching import PanopticCounts, count_matches
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.reporting.worst_images import WorstImages
from efficientps.structures import PanopticSegmentation, Segment
from efficientps.structures.categories import Categories
from efficientps.visualization import Picture, comparison

PathLike: TypeAlias = str | os.PathLike[str]


def evaluate(
    gt_json: PathLike,
    gt_dir: PathLike,
    pred_json: PathLike,
    pred_dir: PathLike,
    *,
    worst: WorstImages | None = None,
    image_dir: PathLike | None = None,
    upright: bool = False,
) -> tuple[PanopticQualityResult, Categories]:
    """Compare the predictions of a folder with the ground truth of another.

    Every image of the ground truth needs a prediction; predictions for other images are ignored. Several threads read
    the images, and no image stays in memory.

    Args:
        gt_json: annotations with ``categories``, whose entries say ``isthing``.
        gt_dir: folder of the PNG files that they name.
        pred_json: annotations of the predictions, with the same category ids.
        pred_dir: folder of the PNG files that these name.
        worst: collects the images of the lowest quality, for a report.
        image_dir: folder of the image files that ``gt_json`` names, for the pictures of these images.
        upright: whether the ground truth belongs to images turned as their EXIF orientation says.

    Returns:
        The panoptic quality, and the classes, stuff first, that it is indexed by.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged or not of the format, an image has no prediction, an id is in a PNG and not in
            the JSON or the reverse, a category is unknown, or the sizes of a pair of maps differ.
    """
    truth_file = read_annotation_file(gt_json)
    categories = categories_of(truth_file.head, gt_json)
    truth = entries_of(truth_file, categories, require_images=False)
    if not truth:
        raise ValueError(f"Annotation file '{gt_json}' has no annotations; there is nothing to evaluate.")
    predicted = read_panoptic_json(pred_json, categories, require_images=False)
    row_of = {image_id: row for row, image_id in enumerate(predicted.image_ids)}
    if missing := [image_id for image_id in truth.image_ids if image_id not in row_of]:
        raise ValueError(
            f"'{pred_json}' has no prediction for the image '{missing[0]}' ({len(missing)} are missing)"
            f"{hint_at_other_ids(truth, row_of)}."
        )

    known = set(truth.image_ids)
    if others := [image_id for image_id in predicted.image_ids if image_id not in known]:
        print(
            f"{len(others)} of the predictions are for images that the ground truth does not have, and do not count; "
            f"the first is '{others[0]}'.",
            file=sys.stderr,
        )

    def count(entry: PanopticEntry) -> PanopticCounts:
        prediction = _read(predicted[row_of[entry.image_id]], pred_dir, categories)
        target = _read(entry, gt_dir, categories)
        try:
            return count_matches(prediction, target, num_classes=len(categories))
        except ValueError as error:
            raise ValueError(f"Image '{entry.image_id}': {error}") from None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        counts = list(threads.map(count, truth))
    if worst is not None:
        for entry, counted in zip(truth, counts, strict=True):
            prediction = predicted[row_of[entry.image_id]]
            paint = partial(_compare, entry, prediction, gt_dir, pred_dir, categories, image_dir, upright)
            worst.offer(entry.image_id, counted, paint)
    iou, tp, fp, fn = (torch.stack(values).sum(dim=0).numpy() for values in zip(*counts, strict=True))
    return PanopticQualityResult.from_counts(iou, tp, fp, fn, num_stuff=categories.num_stuff), categories


def _read(entry: PanopticEntry, directory: PathLike, categories: Categories) -> PanopticSegmentation:
    """Read the map of an entry, and its segments with train ids."""
    segments: list[Segment] = []
    for item in entry.segments:
        train_id = categories.train_id(item.category_id)
        segments.append(Segment(item.id, train_id, categories[train_id].is_thing, is_crowd=item.is_crowd))
    return PanopticSegmentation(torch.from_numpy(read_id_map(Path(directory) / entry.map_file_name)), segments)


def _compare(
    entry: PanopticEntry,
    predicted: PanopticEntry,
    gt_dir: PathLike,
    pred_dir: PathLike,
    categories: Categories,
    image_dir: PathLike | None,
    upright: bool,
) -> Picture:
    """Paint image, prediction and ground truth; the image is grey where none is given."""
    target, prediction = _read(entry, gt_dir, categories), _read(predicted, pred_dir, categories)
    height, width = target.segment_ids.shape
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    if image_dir is not None and entry.image_file_name:
        file = inside(image_dir, entry.image_file_name, "the ground truth")
        image = read_image(file, size=(height, width), upright=upright).permute(1, 2, 0).numpy()
    colors, names = [category.color for category in categories], [category.name for category in categories]
    return comparison(image, prediction, target, colors, names)
