"""Segments of hand-drawn maps."""

import pytest
import torch

from efficientps.data.loading.targets import training_batch
from efficientps.networks.queries.targets import segment_targets
from efficientps.structures import Segment


def batch_of(ids, segments, canvas, num_stuff):
    ids = torch.tensor(ids, dtype=torch.int32)
    size = tuple(ids.shape)
    images = torch.zeros(1, 3, *canvas, dtype=torch.uint8)
    return training_batch(
        {"images": images, "image_sizes": [size], "original_sizes": [size], "image_ids": ["a"],
         "segment_ids": [ids], "segments": [segments]}, num_stuff,
    )  # fmt: skip


def test_stuff_things_and_crowds():
    # Oracle: drawn by hand; 2 stuff classes, class 3 a thing of one pixel, class 2 a crowd, on a padded canvas.
    ids = [[7, 7, 7, 7], [7, 7, 9, 0], [5, 5, 8, 8]]
    segments = [Segment(7, 1, False), Segment(9, 3, True), Segment(8, 2, True, is_crowd=True), Segment(5, 0, False)]
    (target,) = segment_targets(batch_of(ids, segments, (4, 8), num_stuff=2), num_stuff=2)
    assert target.labels.tolist() == [0, 1, 3]
    assert target.masks.shape == (3, 4, 8)
    assert target.masks.sum(dim=(1, 2)).tolist() == [2, 6, 1]
    # cxcywh: fractions of the image, 3x4, not of the canvas.
    expected = [[1 / 4, 5 / 6, 2 / 4, 1 / 3], [2 / 4, 1 / 3, 1, 2 / 3], [2.5 / 4, 1.5 / 3, 1 / 4, 1 / 3]]
    torch.testing.assert_close(target.boxes, torch.tensor(expected))


def test_a_segment_as_wide_as_the_image_has_width_one():
    # Boxes to the last pixel, as the authors have them, would give 159 / 160.
    (target,) = segment_targets(batch_of([[1] * 160], [Segment(1, 0, False)], (32, 160), 1), num_stuff=1)
    assert target.boxes.tolist() == [[0.5, 0.5, 1.0, 1.0]]


def test_a_segment_of_one_pixel_has_an_extent():
    (target,) = segment_targets(batch_of([[0, 1], [0, 0]], [Segment(1, 0, True)], (32, 32), 0), num_stuff=0)
    assert target.boxes.tolist() == [[0.75, 0.25, 0.5, 0.5]]


@pytest.mark.parametrize("ids", [[[0, 0]], [[4, 4]]])
def test_nothing_to_learn(ids):
    segments = [Segment(4, 1, True, is_crowd=True)] if ids[0][0] else []
    (target,) = segment_targets(batch_of(ids, segments, (32, 32), 1), num_stuff=1)
    assert target.labels.shape == (0,)
    assert target.boxes.shape == (0, 4)
    assert target.masks.shape == (0, 32, 32)
