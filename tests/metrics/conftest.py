"""Random pairs of panoptic maps, and their counts by cityscapesscripts."""

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official
from PIL import Image

from efficientps.structures import PanopticSegmentation, Segment

NUM_STUFF, NUM_THINGS, ABSENT = 4, 4, 3  # stuff class 3 occurs nowhere
SIZE = (32, 48)


def panoptic(segment_ids, classes, crowds=()):
    """A segmentation of a map, given the train_id of each id; ids without a pixel are dropped."""
    present = set(np.unique(segment_ids).tolist())
    segments = [
        Segment(i, train_id, train_id >= NUM_STUFF, is_crowd=i in crowds)
        for i, train_id in classes.items()
        if i in present
    ]
    return PanopticSegmentation(torch.from_numpy(segment_ids.astype(np.int32)), segments)


def random_rectangle(rng):
    top, left = rng.integers(0, SIZE[0] - 4), rng.integers(0, SIZE[1] - 4)
    return np.s_[top : top + rng.integers(2, 20), left : left + rng.integers(2, 26)]


def make_pair(rng):
    """A random target, and a prediction that agrees with it here and there."""
    allowed = [c for c in range(NUM_STUFF + NUM_THINGS) if c != ABSENT]
    target = np.zeros(SIZE, dtype=np.int64)
    ids = np.unique(rng.integers(1, 2**24, 40)).tolist()
    rng.shuffle(ids)
    classes = {i: int(rng.choice(allowed)) for i in ids[:12]}
    for i in ids[: rng.integers(0, 12)]:
        target[random_rectangle(rng)] = i
    if rng.random() < 0.8:
        target[random_rectangle(rng)] = 0
    crowds = {i for i, train_id in classes.items() if train_id >= NUM_STUFF and rng.random() < 0.3}

    prediction = np.roll(target, rng.integers(-2, 3, 2), axis=(0, 1))
    predicted_classes = {i: c if rng.random() < 0.8 else int(rng.choice(allowed)) for i, c in classes.items()}
    for i in ids[12 : 12 + rng.integers(0, 5)]:
        prediction[random_rectangle(rng)] = i
        predicted_classes[i] = int(rng.choice(allowed))
    if rng.random() < 0.5:
        prediction[random_rectangle(rng)] = 0
    return panoptic(prediction, predicted_classes), panoptic(target, classes, crowds)


def write(path, segmentation):
    ids = segmentation.segment_ids.numpy()
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(path)
    return {
        "image_id": path.stem,
        "file_name": path.name,
        "segments_info": [
            {"id": s.id, "category_id": s.train_id, "iscrowd": int(s.is_crowd), "area": int((ids == s.id).sum())}
            for s in segmentation.segments
        ],
    }


CATEGORIES = {c: {"id": c, "isthing": int(c >= NUM_STUFF)} for c in range(NUM_STUFF + NUM_THINGS)}


def write_all(folder, pairs):
    """Write predictions and targets as cityscapesscripts reads them; return the annotations (target, prediction)."""
    for name in ("truth", "prediction"):
        (folder / name).mkdir()
    return [
        (write(folder / "truth" / f"{i}.png", target), write(folder / "prediction" / f"{i}.png", prediction))
        for i, (prediction, target) in enumerate(pairs)
    ]


@pytest.fixture
def random_pair():
    """A function of a random generator: a prediction and a target of 4 stuff classes (3 never occurs) and 4 things."""
    return make_pair


@pytest.fixture
def official_counts(tmp_path):
    """A function of pairs (prediction, target): for each its counts by cityscapesscripts, which reads them as files."""

    def count(pairs):
        annotations = write_all(tmp_path, pairs)
        folders = (tmp_path / "truth", tmp_path / "prediction")
        return [official.pq_compute_single_core(0, [annotation], *folders, CATEGORIES) for annotation in annotations]

    return count
