"""The types that cross the doors."""

import torch
from torch.nn.functional import interpolate

from efficientps.structures import InstancePredictions, PanopticSegmentation, Prediction, Segment
from tests.sweep import sweep


def predictions(boxes: list[list[float]], grid: int = 7) -> InstancePredictions:
    frames = torch.tensor(boxes).reshape(-1, 4)
    number = len(frames)
    return InstancePredictions(
        scores=torch.linspace(0.9, 0.1, number),
        labels=torch.arange(number),
        boxes=frames,
        mask_logits=torch.randn(number, grid, grid),
        mask_frames=frames,
    )


def test_rendering_a_whole_frame_is_bilinear_interpolation():
    """Oracle: torch's interpolate with align_corners=False."""
    instances = predictions([[2.0, 3.0, 30.0, 17.0]])
    expected = interpolate(instances.mask_logits[None], size=(14, 28), mode="bilinear")[0, 0]
    torch.testing.assert_close(instances.render(0, (2, 3, 30, 17)), expected)


def test_rendering_a_window_is_that_part_of_the_whole():
    """Oracle: invariance; a frame over the whole image, read in a window."""
    instances = predictions([[0.0, 0.0, 64.0, 32.0]])
    whole = instances.render(0, (0, 0, 64, 32))
    torch.testing.assert_close(instances.render(0, (5, 7, 20, 30)), whole[7:30, 5:20])


def test_windows_hold_the_pixels_whose_centres_are_inside():
    """Oracle: a loop over all pixels."""
    boxes = [
        [0.0, 0.0, 1.0, 1.0],
        [0.4, 0.6, 3.5, 4.4],
        [-3.0, 2.0, 99.0, 99.0],
        [2.6, 2.6, 3.4, 3.4],
        [5.0, 1.0, 5.2, 2.0],
    ]
    height, width = 6, 8
    for (left, top, right, bottom), (x0, y0, x1, y1) in zip(
        boxes, predictions(boxes).windows((height, width)), strict=True
    ):
        inside = {
            (x, y) for y in range(height) for x in range(width) if left <= x + 0.5 < right and top <= y + 0.5 < bottom
        }
        assert {(x, y) for y in range(y0, y1) for x in range(x0, x1)} == inside


@sweep("index", [torch.tensor([True, False, True]), torch.tensor([2, 0]), slice(1, 1)])
def test_selecting_moves_all_fields_together(index):
    """Oracle: the same indexing of each field."""
    instances = predictions([[0.0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    chosen = instances[index]
    for name in ("scores", "labels", "boxes", "mask_logits", "mask_frames"):
        assert torch.equal(getattr(chosen, name), getattr(instances, name)[index])
    assert len(chosen) == len(chosen.scores)


def test_resizing_keeps_large_ids_exact_and_drops_lost_segments():
    """Oracle: doubling repeats pixels; halving keeps only what a nearest pixel sees."""
    big = 2**31 - 1
    ids = torch.tensor([[0, 26001], [big, big]], dtype=torch.int32)
    segments = [Segment(26001, 13, True), Segment(big, 2, False)]
    doubled = PanopticSegmentation(ids, segments).resize((4, 4))
    assert torch.equal(doubled.segment_ids, ids.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert doubled.segments == segments
    assert doubled.segment_ids.dtype == torch.int32
    single = PanopticSegmentation(ids, segments).resize((1, 1))
    assert [s.id for s in single.segments] == [i for i in single.segment_ids.flatten().tolist() if i]


def test_resizing_to_its_own_size_is_the_map_itself():
    panoptic = PanopticSegmentation(torch.zeros(2, 3, dtype=torch.int32))
    assert panoptic.resize((2, 3)) is panoptic


def test_resizing_a_prediction_resizes_all_three_parts():
    """Oracle: doubling repeats pixels and doubles coordinates."""
    ids = torch.tensor([[0, 1], [2, 2]], dtype=torch.int32)
    panoptic = PanopticSegmentation(ids, [Segment(1, 0, False), Segment(2, 1, True)])
    semantic = torch.tensor([[0, 3], [255, 7]], dtype=torch.uint8)
    instances = predictions([[0.0, 1.0, 2.0, 2.0]])
    doubled = Prediction(panoptic, semantic, instances).resize((4, 4))
    assert torch.equal(doubled.panoptic.segment_ids, ids.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert torch.equal(doubled.semantic, semantic.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert doubled.semantic.dtype == torch.uint8
    assert doubled.instances.boxes.tolist() == doubled.instances.mask_frames.tolist() == [[0.0, 2.0, 4.0, 4.0]]
    assert torch.equal(doubled.instances.mask_logits, instances.mask_logits)
