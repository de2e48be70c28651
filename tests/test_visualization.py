import numpy as np
import pytest
import torch

from efficientps.structures import PanopticSegmentation, Segment
from efficientps.visualization import colorize, comparison, grid, overlay
from tests.sweep import sweep

COLORS = [(128, 64, 128), (70, 130, 180), (0, 0, 142), (220, 20, 60)]
NAMES = ["road", "sky", "car", "person"]


def scene(size=(256, 512)):
    """Sky over road, two cars and a crowd of persons on it, and void at the bottom."""
    height, width = size
    ids = torch.ones(size, dtype=torch.int32)
    ids[height // 2 :] = 2
    ids[height // 2 : 3 * height // 4, width // 8 : 3 * width // 8] = 3
    ids[height // 2 : 3 * height // 4, width // 2 : 3 * width // 4] = 9
    ids[height // 3 : height // 2, : width // 10] = 4
    ids[-height // 8 :] = 0
    segments = [
        Segment(1, 1, False),
        Segment(2, 0, False),
        Segment(3, 2, True),
        Segment(9, 2, True),
        Segment(4, 3, True, is_crowd=True),
    ]
    return PanopticSegmentation(ids, segments)


def image(size=(256, 512)):
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def colors_of(picture, segmentation, segment_id):
    return {tuple(color) for color in picture[(segmentation.segment_ids == segment_id).numpy()].tolist()}


def test_stuff_has_its_color_and_each_instance_its_own():
    # Oracle: by contract; one colour per segment, the first instance's near its class, the others' different.
    panoptic = scene()
    picture = colorize(panoptic, COLORS)
    assert picture.dtype == np.uint8 and picture.shape == (256, 512, 3)
    assert colors_of(picture, panoptic, 1) == {COLORS[1]}
    assert colors_of(picture, panoptic, 2) == {COLORS[0]}
    (first,), (second,) = (colors_of(picture, panoptic, i) for i in (3, 9))
    assert first == COLORS[2]
    assert np.abs(np.subtract(first, second)).max() >= 40


def test_void_and_crowds_are_hatched():
    # Oracle: by contract; void has stripes on black, a crowd stripes on its colour.
    panoptic = scene()
    picture = colorize(panoptic, COLORS)
    assert len(colors_of(picture, panoptic, 0)) == 2 and (0, 0, 0) in colors_of(picture, panoptic, 0)
    assert len(colors_of(picture, panoptic, 4)) == 2 and COLORS[3] in colors_of(picture, panoptic, 4)


def test_twenty_instances_can_be_told_apart():
    # Oracle: by contract; any two shades of one class differ by 10 levels in some channel, neighbours by 40 in sum.
    ids = torch.arange(1, 21, dtype=torch.int32).repeat(4, 1)
    for train_id in (2, 3):
        row = colorize(PanopticSegmentation(ids, [Segment(i, train_id, True) for i in range(1, 21)]), COLORS)[0]
        distances = np.abs(row[:, None].astype(int) - row[None])
        assert (distances.max(-1) + 255 * np.eye(20)).min() >= 10
        assert np.abs(np.diff(row.astype(int), axis=0)).sum(-1).min() >= 40


def test_colors_do_not_depend_on_the_order_of_the_list():
    # Oracle: invariance; the same map gives the same picture.
    panoptic = scene()
    shuffled = PanopticSegmentation(panoptic.segment_ids, panoptic.segments[::-1])
    np.testing.assert_array_equal(colorize(panoptic, COLORS), colorize(shuffled, COLORS))


def test_overlay_mixes_image_and_colors():
    # Oracle: by hand; inside a segment the weighted mean, on a border brighter, with alpha 0 the image.
    panoptic, photo = scene(), image()
    before = photo.copy()
    mixed = overlay(photo, panoptic, COLORS, alpha=0.4)
    np.testing.assert_array_equal(photo, before)  # the caller's image stays as it is
    expected = 0.6 * photo[20, 200] + 0.4 * np.array(COLORS[1])
    np.testing.assert_allclose(mixed[20, 200], expected, atol=1)
    border = overlay(np.zeros_like(photo), panoptic, COLORS, alpha=0.4)[127, 64:180]
    assert border.min() > 150
    np.testing.assert_array_equal(overlay(photo, panoptic, COLORS, alpha=0)[10:100, 70:], photo[10:100, 70:])


@pytest.mark.parametrize("size", [(256, 512), (1024, 2048)])
def test_names_are_written_on_their_segments(size):
    # Oracle: difference from the overlay without names; something readable is written on each large segment only.
    panoptic, photo = scene(size), np.full((*size, 3), 90, dtype=np.uint8)
    written = (overlay(photo, panoptic, COLORS, NAMES) != overlay(photo, panoptic, COLORS)).any(axis=-1)
    rows = np.flatnonzero(written.any(axis=1))
    for segment_id in (1, 2, 3, 9):
        inside = written & (panoptic.segment_ids == segment_id).numpy()
        heights = np.flatnonzero(inside.any(axis=1))
        assert 0.03 * size[0] < heights[-1] - heights[0] + 1 < 0.12 * size[0] or segment_id == 1  # 1 has two labels
        assert inside.sum() > 100
    assert len(rows) and not written[-size[0] // 8 :].any()  # nothing is written on void


def test_small_instances_are_named_beside_themselves():
    # Oracle: by contract; a name that would hide its instance stands above it, and not on it.
    ids = torch.ones(256, 512, dtype=torch.int32)
    ids[100:118, 200:212] = 5
    panoptic = PanopticSegmentation(ids, [Segment(1, 0, False), Segment(5, 3, True)])
    photo = np.zeros((256, 512, 3), dtype=np.uint8)
    written = (overlay(photo, panoptic, COLORS, NAMES) != overlay(photo, panoptic, COLORS)).any(axis=-1)
    assert not written[100:118, 200:212].any()
    assert written[84:100, 190:222].sum() > 100


@sweep("size", [(3, 5), (1, 40), (32, 64), (333, 517)])
def test_any_size_and_empty_maps(size):
    # Oracle: by contract; shape and type, for odd and tiny pictures, and for maps with no segment.
    for panoptic in (scene(size).resize(size), PanopticSegmentation(torch.zeros(size, dtype=torch.int32))):
        picture = overlay(image(size), panoptic, COLORS, NAMES)
        assert picture.shape == (*size, 3) and picture.dtype == np.uint8
        sheet = comparison(image(size), panoptic, panoptic, COLORS, NAMES)
        assert sheet.dtype == np.uint8 and sheet.shape[1] > 3 * size[1] and sheet.shape[0] > size[0]


def test_comparison_shows_image_prediction_and_truth():
    # Oracle: by contract; the three views stand side by side, untouched.
    panoptic, photo = scene(), image()
    nothing = PanopticSegmentation(torch.zeros(256, 512, dtype=torch.int32))
    sheet = comparison(photo, nothing, panoptic, COLORS, NAMES)
    views = [photo, overlay(photo, nothing, COLORS, NAMES), overlay(photo, panoptic, COLORS, NAMES)]
    gap = (sheet.shape[1] - 3 * 512) // 4
    for column, view in enumerate(views):
        left = gap + column * (512 + gap)
        np.testing.assert_array_equal(sheet[-gap - 256 : -gap, left : left + 512], view)


def test_grid_arranges_in_reading_order():
    # Oracle: by hand; three pictures of 128 pixels in two columns, the smaller one scaled up.
    pictures = [np.full((64, 128, 3), value, dtype=np.uint8) for value in (50, 100)]
    sheet = grid([*pictures, np.full((32, 64, 3), 150, dtype=np.uint8)], columns=2)
    assert sheet.shape == (2 * 64 + 3 * 2, 2 * 128 + 3 * 2, 3)
    assert sheet[30, 60, 0] == 50 and sheet[30, 200, 0] == 100 and sheet[100, 60, 0] == 150
    assert sheet[100, 200].max() < 40  # an empty place is background
    assert grid(pictures[:1], columns=4).shape == (64 + 4, 128 + 4, 3)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"image has the size \(10, 10\) and the panoptic map \(256, 512\)"):
        overlay(image((10, 10)), scene(), COLORS)
    with pytest.raises(ValueError, match="needs a picture and a column; there are 0 and 1"):
        grid([])
