import numpy as np
import pytest
import torch

from efficientps.data.loading.targets import instance_targets, semantic_target, training_batch
from efficientps.structures import IGNORE_INDEX, PanopticBatch, Segment
from tests.sweep import sweep

NUM_STUFF = 3


def random_map(seed, h=12, w=17):
    """Return a map with stuff, things, crowd, void, and segments that have no pixel."""
    rng = np.random.default_rng(seed)
    segments = [
        Segment(7, 0, False),
        Segment(8, 2, False),
        Segment(24, 3, True, is_crowd=True),
        Segment(24001, 3, True),
        Segment(26001, 4, True),
        Segment(26000, 4, True),
        Segment(33007, 5, True),
    ]
    drawn = [0, *(s.id for s in segments if s.id != 26000)]
    return torch.from_numpy(rng.choice(drawn, (h, w)).astype(np.int32)), segments


def naive_semantic(segment_ids, segments, canvas):
    target = [[IGNORE_INDEX] * canvas[1] for _ in range(canvas[0])]
    for y, row in enumerate(segment_ids.tolist()):
        for x, segment_id in enumerate(row):
            for segment in segments:
                if segment.id == segment_id:
                    target[y][x] = segment.train_id
    return target


def naive_instances(segment_ids, segments, canvas):
    found = []
    for segment in segments:
        places = [(y, x) for y, row in enumerate(segment_ids.tolist()) for x, i in enumerate(row) if i == segment.id]
        if segment.is_thing and not segment.is_crowd and places:
            mask = torch.zeros(canvas, dtype=torch.bool)
            for y, x in places:
                mask[y, x] = True
            ys, xs = zip(*places, strict=True)
            box = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
            found.append((segment.train_id - NUM_STUFF, box, mask))
    return found


@sweep("seed", range(5))
@sweep("canvas", [(12, 17), (32, 32)])
def test_semantic_target(seed, canvas):
    """Oracle: naive loop over pixels."""
    segment_ids, segments = random_map(seed)
    target = semantic_target(segment_ids, segments, canvas)
    assert target.dtype == torch.int64 and target.tolist() == naive_semantic(segment_ids, segments, canvas)


@sweep("seed", range(5))
@sweep("canvas", [(12, 17), (32, 32)])
def test_instance_targets(seed, canvas):
    """Oracle: naive loop over pixels; segments without a pixel are no instances."""
    segment_ids, segments = random_map(seed, *((12, 17)))
    targets = instance_targets(segment_ids, segments, canvas, num_stuff=NUM_STUFF)
    expected = naive_instances(segment_ids, segments, canvas)
    assert targets["labels"].tolist() == [label for label, _, _ in expected]
    assert targets["boxes"].tolist() == [box for _, box, _ in expected]
    assert torch.equal(targets["masks"], torch.stack([mask for _, _, mask in expected]))


@sweep("segments", [[], [Segment(7, 0, False)], [Segment(24, 3, True, is_crowd=True)]])
def test_no_instance_is_zero_instances(segments):
    """Shapes and types with N = 0."""
    segment_ids = torch.full((4, 5), segments[0].id if segments else 0, dtype=torch.int32)
    targets = instance_targets(segment_ids, segments, (32, 64), num_stuff=NUM_STUFF)
    assert {key: (value.shape, value.dtype) for key, value in targets.items()} == {
        "labels": ((0,), torch.int64),
        "boxes": ((0, 4), torch.float32),
        "masks": ((0, 32, 64), torch.bool),
    }


def test_crowd_counts_in_the_semantic_target_only():
    segment_ids = torch.tensor([[24, 24001]], dtype=torch.int32)
    segments = [Segment(24, 3, True, is_crowd=True), Segment(24001, 3, True)]
    assert semantic_target(segment_ids, segments, (1, 2)).tolist() == [[3, 3]]
    assert instance_targets(segment_ids, segments, (1, 2), num_stuff=3)["masks"].tolist() == [[[False, True]]]


def test_padding_and_unlisted_ids_are_ignored_never_class_0():
    segment_ids = torch.tensor([[7, 5], [9, 0]], dtype=torch.int32)
    target = semantic_target(segment_ids, [Segment(7, 0, False)], (3, 3))
    assert target.tolist() == [[0, 255, 255], [255, 255, 255], [255, 255, 255]]
    assert (semantic_target(torch.zeros(2, 2, dtype=torch.int32), [], (3, 3)) == IGNORE_INDEX).all()


def test_maps_that_are_views_are_read_right():
    """Oracle: the contiguous copy (flipped and cropped maps are views)."""
    segment_ids, segments = random_map(0, 12, 17)
    view = segment_ids.flip(-1)[2:10, 3:].t()
    for function in (semantic_target, lambda *a: instance_targets(*a, num_stuff=NUM_STUFF)["masks"]):
        assert torch.equal(function(view, segments, (32, 32)), function(view.contiguous(), segments, (32, 32)))


def test_training_batch_holds_the_targets_of_each_image():
    """Oracle: the functions for one image; images keep their order and the batch its other fields."""
    maps = [random_map(0, 12, 17), (torch.zeros(8, 9, dtype=torch.int32), [])]
    batch = PanopticBatch(
        images=torch.zeros(2, 3, 32, 64, dtype=torch.uint8),
        image_sizes=[(12, 17), (8, 9)],
        original_sizes=[(24, 34), (16, 18)],
        image_ids=["a", "b"],
        segment_ids=[ids for ids, _ in maps],
        segments=[segments for _, segments in maps],
    )
    result = training_batch(batch, NUM_STUFF)
    assert result["semantic"].shape == (2, 32, 64) and len(result["instances"]) == 2
    for index, (ids, segments) in enumerate(maps):
        assert torch.equal(result["semantic"][index], semantic_target(ids, segments, (32, 64)))
        expected = instance_targets(ids, segments, (32, 64), num_stuff=NUM_STUFF)
        assert all(torch.equal(result["instances"][index][key], expected[key]) for key in expected)
    assert all(result[key] is batch[key] for key in batch)


@pytest.mark.gpu
def test_targets_on_cuda_equal_those_on_cpu():
    """Oracle: the CPU."""
    segment_ids, segments = random_map(0)
    for function in (
        lambda ids: {"semantic": semantic_target(ids, segments, (32, 32))},
        lambda ids: instance_targets(ids, segments, (32, 32), num_stuff=NUM_STUFF),
    ):
        expected, found = function(segment_ids), function(segment_ids.cuda())
        assert all(value.is_cuda and torch.equal(value.cpu(), expected[key]) for key, value in found.items())
