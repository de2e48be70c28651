import numpy as np
import pytest
import torch

from efficientps.metrics.semantic_iou import SemanticIoU
from efficientps.structures import PanopticSegmentation, Segment
from tests.sweep import sweep

NUM_CLASSES = 5


def random_image(rng, size=(12, 17)):
    """A prediction (with pixels of no class) and a target (with void); class 4 occurs in neither."""
    ids = rng.choice([0, 11, 12, 13, 14], size).astype(np.int32)
    segments = [Segment(11, 0, False), Segment(12, 2, True), Segment(13, 2, True, is_crowd=True), Segment(14, 1, False)]
    prediction = rng.choice([0, 1, 2, 3, 255], size).astype(np.uint8)
    return torch.from_numpy(prediction), PanopticSegmentation(torch.from_numpy(ids), segments)


def naive_iou(images):
    intersection, union = np.zeros(NUM_CLASSES), np.zeros(NUM_CLASSES)
    for prediction, target in images:
        class_of = {segment.id: segment.train_id for segment in target.segments}
        pairs = zip(prediction.flatten().tolist(), target.segment_ids.flatten().tolist(), strict=True)
        for predicted, segment_id in pairs:
            if segment_id == 0:
                continue
            true = class_of[segment_id]
            union[true] += 1
            if predicted == true:
                intersection[true] += 1
            elif predicted != 255:
                union[predicted] += 1
    return np.array([i / u if u else np.nan for i, u in zip(intersection, union, strict=True)])


def test_equals_a_naive_loop():
    # Oracle: naive loop over the pixels; void counts nowhere, crowds belong to their class, class 4 has no value.
    rng = np.random.default_rng(0)
    images = [random_image(rng) for _ in range(5)]
    metric = SemanticIoU(num_classes=NUM_CLASSES)
    for prediction, target in images:
        metric.update([prediction], [target])
    result, expected = metric.compute(), naive_iou(images)
    np.testing.assert_allclose(result.per_class, expected, rtol=1e-12)
    assert np.isnan(result.per_class[4]) and not np.isnan(result.per_class[3])
    assert result.mean == pytest.approx(np.nanmean(expected))


def test_two_ranks_count_what_one_counts():
    # Oracle: invariance; the state is a sum.
    rng = np.random.default_rng(1)
    images = [random_image(rng) for _ in range(4)]
    whole, first, second = (SemanticIoU(num_classes=NUM_CLASSES) for _ in range(3))
    for metric, part in ((whole, images), (first, images[:1]), (second, images[1:])):
        metric.update([prediction for prediction, _ in part], [target for _, target in part])
    first.dist_sync_fn = lambda state, group=None: [state, second.confusion]
    first.distributed_available_fn = lambda: True
    np.testing.assert_array_equal(first.compute().per_class, whole.compute().per_class)
    assert whole.compute().mean != second.compute().mean


def test_nothing_counted_is_zero_not_nan():
    # Oracle: by contract; an all-void target leaves no class.
    metric = SemanticIoU(num_classes=2)
    metric.update([torch.zeros(2, 2, dtype=torch.uint8)], [PanopticSegmentation(torch.zeros(2, 2).int())])
    assert metric.compute().mean == 0.0


@sweep(
    "prediction, segments, message",
    [
        ([[0, 1], [0, 1]], [Segment(1, 0, False)], r"size \(2, 2\) and the target \(1, 2\)"),
        ([[0, 2]], [Segment(1, 0, False)], r"prediction has a pixel of class 2; classes are 0\.\.1"),
        ([[0, 1]], [Segment(1, 7, False)], r"target has train ids \[7\]; they must be in 0\.\.1"),
        ([[0, 1]], [], r"pixels of a segment that is not in its list"),
    ],
)
def test_bad_input_is_refused(prediction, segments, message):
    target = PanopticSegmentation(torch.ones(1, 2).int(), segments)
    with pytest.raises(ValueError, match=message):
        SemanticIoU(num_classes=2).update([torch.tensor(prediction, dtype=torch.uint8)], [target])


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="There are 1 predictions for 0 targets"):
        SemanticIoU(num_classes=2).update([torch.zeros(1, 1, dtype=torch.uint8)], [])
