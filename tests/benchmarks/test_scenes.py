import numpy as np
import pytest
import torch

from benchmarks.scenes import panoptic_scene, segments_pair, semantic_logits, street_instances

SIZE = (128, 256)


@pytest.mark.parametrize("number", [5, 40])
def test_pairs_have_the_number_of_segments_that_was_asked_for(number):
    # Oracle: np.unique; the lists fit the maps, and the two differ without being strangers.
    prediction, target = segments_pair(number, SIZE)
    for side in (prediction, target):
        assert [segment.id for segment in side.segments] == sorted(set(np.unique(side.segment_ids)) - {0})
        assert len(side.segments) == number
    assert (target.segment_ids == 0).any()
    assert 0.5 < (prediction.segment_ids == target.segment_ids).float().mean() < 1
    assert [s.train_id for s in prediction.segments] != [s.train_id for s in target.segments]


def test_scene_has_the_segments_of_its_map():
    # Oracle: np.unique, and the encoding of Cityscapes: the label of an id is in its thousands.
    image, panoptic = panoptic_scene(3, SIZE)
    assert image.shape == (3, *SIZE) and image.dtype == torch.uint8
    assert {segment.id for segment in panoptic.segments} == set(np.unique(panoptic.segment_ids)) - {0}
    cars = [segment for segment in panoptic.segments if segment.id // 1000 == 26]
    assert cars and all(segment.train_id == 13 and segment.is_thing for segment in cars)


def test_instances_lie_in_the_image_and_are_the_same_each_time():
    # Oracle: by contract.
    instances = street_instances(50, SIZE)
    boxes = instances.boxes
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= SIZE[1]).all() and (boxes[:, 3] <= SIZE[0]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (instances.scores > 0.5).all()
    assert torch.equal(boxes, street_instances(50, SIZE).boxes)
    assert semantic_logits(SIZE, num_classes=5).shape == (5, *SIZE)
