"""Batches of synthetic street scenes, and the precisions that networks run in."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Literal, TypeAlias

import torch

from benchmarks.scenes import panoptic_scene
from efficientps.data.loading.targets import training_batch
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.structures import PanopticBatch, PanopticSegmentation, Segment, TrainingBatch

Precision: TypeAlias = Literal["fp32", "bf16"]

_SCENES = 8
"""Number of different scenes per size; drawing a scene takes longer than a training step on a fast device."""

_scene = lru_cache(maxsize=_SCENES)(panoptic_scene)


def autocast(precision: Precision, device: str) -> AbstractContextManager[object]:
    """Return the context that a network runs in: autocast to bfloat16, or an empty context."""
    return torch.autocast(device, dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def street_batch(
    number: int, size: tuple[int, int], *, device: str = "cpu", num_instances: int | None = None
) -> TrainingBatch:
    """Return a training batch of scenes, with targets.

    Args:
        number: number of images; every eighth shows the same scene.
        size: (height, width) of the images, multiples of 32.
        device: device of the batch.
        num_instances: if given, the instances of each map are replaced by this many small squares in rows.
    """
    scenes = [_scene(seed % _SCENES, size) for seed in range(number)]
    if num_instances is not None:
        scenes = [(image, _with_squares(panoptic, num_instances)) for image, panoptic in scenes]
    batch = PanopticBatch(
        images=torch.stack([image for image, _ in scenes]).to(device),
        image_sizes=[size] * number,
        original_sizes=[size] * number,
        image_ids=[str(seed) for seed in range(number)],
        segment_ids=[panoptic.segment_ids.to(device) for _, panoptic in scenes],
        segments=[panoptic.segments for _, panoptic in scenes],
    )
    return training_batch(batch, CITYSCAPES_CATEGORIES.num_stuff)


def _with_squares(panoptic: PanopticSegmentation, number: int) -> PanopticSegmentation:
    """Return the map with its instances replaced by ``number`` square cars, which lie in rows over its stuff."""
    car = CITYSCAPES_CATEGORIES.train_id(26)
    stuff = [segment for segment in panoptic.segments if not segment.is_thing]
    ids = torch.where(
        torch.isin(panoptic.segment_ids, torch.tensor([segment.id for segment in stuff], dtype=torch.int32)),
        panoptic.segment_ids,
        0,
    )
    height, width = ids.shape
    columns = max(1, round((2 * number) ** 0.5))
    rows = -(-number // columns)
    step_y, step_x = height // rows, width // columns
    for index in range(number):
        top, left = index // columns * step_y, index % columns * step_x
        ids[top : top + max(1, step_y // 2), left : left + max(1, step_x // 2)] = 30_000 + index
    present = set(torch.unique(ids).tolist())
    cars = [Segment(30_000 + index, car, True) for index in range(number)]
    return PanopticSegmentation(ids, [segment for segment in stuff if segment.id in present] + cars)
