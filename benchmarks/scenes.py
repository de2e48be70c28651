"""Inputs of the benchmarks: synthetic street scenes, and instances with the sizes and positions of street objects."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.structures import VOID, InstancePredictions, PanopticSegmentation, Segment
from efficientps.synthetic.streets import render_scene

FULL_SIZE = (1024, 2048)
"""Height and width of the images of Cityscapes."""

_LOGIT_SPREAD = 4.0
_BLOB = 128


def panoptic_scene(seed: int, size: tuple[int, int] = FULL_SIZE) -> tuple[Tensor, PanopticSegmentation]:
    """Return a synthetic photograph, uint8 ``[3, h, w]``, and its panoptic map with the ids of Cityscapes.

    As in the official maps, a thing label without an instance number is a crowd, and labels that are not evaluated are
    void.
    """
    scene = render_scene(seed, size)
    ids = scene.instance_ids.astype(np.int32)
    segments = []
    train_ids = {category.label_id: train_id for train_id, category in enumerate(CITYSCAPES_CATEGORIES)}
    for number in np.unique(ids).tolist():
        train_id = train_ids.get(number if number < 1000 else number // 1000)
        if train_id is None:
            ids[ids == number] = VOID
            continue
        is_thing = CITYSCAPES_CATEGORIES[train_id].is_thing
        segments.append(Segment(number, train_id, is_thing, is_crowd=is_thing and number < 1000))
    return torch.from_numpy(scene.image).permute(2, 0, 1), PanopticSegmentation(torch.from_numpy(ids), segments)


@lru_cache(maxsize=2)
def segments_pair(
    number: int, size: tuple[int, int] = FULL_SIZE, seed: int = 0
) -> tuple[PanopticSegmentation, PanopticSegmentation]:
    """Return a prediction and a target with ``number`` segments each and no crowd.

    The target is a synthetic street, to which rounded segments of random classes are added until it has enough
    segments. The prediction is the target shifted by a few pixels, with random classes for a fifth of the segments.
    Both have a strip of void at the bottom.
    """
    rng = np.random.default_rng(seed)
    _, street = panoptic_scene(seed, size)
    ids = street.segment_ids.numpy().copy()
    train_ids = {segment.id: segment.train_id for segment in street.segments if not segment.is_crowd}
    ids[~np.isin(ids, list(train_ids))] = VOID
    ids[-size[0] // 32 :] = VOID
    height, width = size
    while len(present := sorted(set(np.unique(ids).tolist()) & set(train_ids))) < number:
        train_id = int(rng.integers(len(CITYSCAPES_CATEGORIES)))
        new = 100_000 + len(train_ids)
        train_ids[new] = train_id
        box_height = int(rng.uniform(0.05, 0.3) * height)
        box_width = max(2, int(box_height * rng.uniform(0.3, 1.5)))
        top, left = int(rng.integers(height - box_height)), int(rng.integers(width - box_width))
        rows, columns = np.mgrid[-1 : 1 : box_height * 1j, -1 : 1 : box_width * 1j]
        ids[top : top + box_height, left : left + box_width][rows**4 + columns**4 < 1] = new
    for extra in present[number:]:
        ids[ids == extra] = VOID
    target = _segmentation(ids, train_ids)
    other = {
        number: int(rng.integers(len(CITYSCAPES_CATEGORIES))) if rng.random() < 0.2 else train_id
        for number, train_id in train_ids.items()
    }
    return _segmentation(np.roll(ids, (max(1, height // 512), -max(1, width // 400)), axis=(0, 1)), other), target


def _segmentation(
    ids: np.ndarray[tuple[int, ...], np.dtype[np.int32]], train_ids: dict[int, int]
) -> PanopticSegmentation:
    present = [number for number in np.unique(ids).tolist() if number != VOID]
    segments = [
        Segment(number, train_ids[number], CITYSCAPES_CATEGORIES[train_ids[number]].is_thing) for number in present
    ]
    return PanopticSegmentation(torch.from_numpy(np.ascontiguousarray(ids)), segments)


def semantic_logits(
    size: tuple[int, int] = FULL_SIZE, *, num_classes: int = 19, seed: int = 0, device: torch.device | str = "cpu"
) -> Tensor:
    """Return smooth random logits, float32 ``[C, h, w]``, whose classes form regions about 128 pixels wide."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, num_classes, *(max(2, extent // _BLOB) for extent in size), generator=generator)
    return interpolate(_LOGIT_SPREAD * coarse.to(device), size=size, mode="bilinear")[0]


def street_instances(
    number: int,
    size: tuple[int, int] = FULL_SIZE,
    *,
    num_things: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> InstancePredictions:
    """Return instances with scores above 0.5 and 28x28 masks, with sizes and positions of street objects.

    The logarithm of the height is uniform, from 1/64 to 1/2 of the image's height; the width is 0.4 to 2 times the
    height. A mask is an ellipse with noise.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(number).uniform_(low, high, generator=generator)

    height, width = size
    box_height = height * torch.exp2(uniform(-6, -1))
    box_width = box_height * torch.exp2(uniform(-1.3, 1))
    x, y = uniform(0, width), uniform(0.2 * height, 0.9 * height)
    corners = torch.stack([x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2], dim=1)
    limits = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes = corners.clamp(min=0).minimum(limits)
    axis = torch.linspace(-1, 1, 28)
    ellipse = 6 * (1 - axis[:, None] ** 2 - axis**2)
    instances = InstancePredictions(
        scores=uniform(0.5, 1.0).clamp(min=0.501),
        labels=torch.randint(num_things, (number,), generator=generator),
        boxes=boxes.to(device),
        mask_logits=(ellipse + torch.randn(number, 28, 28, generator=generator)).to(device),
        mask_frames=boxes.to(device),
    )
    instances.scores, instances.labels = instances.scores.to(device), instances.labels.to(device)
    return instances
