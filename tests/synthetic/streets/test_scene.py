"""Procedural scenes: determinism, encoding, coverage of the classes, perspective and occlusion."""

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, labels

from efficientps.synthetic.streets import render_scene
from efficientps.synthetic.streets.camera import Camera, Pose, clip_near
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.figures import draw_parts, person
from efficientps.synthetic.streets.labels import BICYCLE, CAR, PERSON, RIDER
from efficientps.synthetic.streets.lighting import sample_light
from efficientps.synthetic.streets.scene import encode_instances
from efficientps.synthetic.streets.solid import box, draw_panels
from efficientps.synthetic.streets.stage import painters_order
from efficientps.synthetic.streets.texture import noise_tile
from efficientps.synthetic.streets.two_wheelers import bicycle
from tests.sweep import sweep

SIZE = (80, 160)
EVALUATED = [label for label in labels if not label.ignoreInEval]
THINGS = {label.id for label in EVALUATED if label.hasInstances}


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, SIZE) for seed in range(40)]


@pytest.fixture
def canvas():
    camera = Camera(width=400, height=200, focal=300.0, horizon=90.0, x=0.2, y=1.4, yaw=0.07)
    return Canvas(camera, sample_light(np.random.default_rng(0)))


def test_the_same_seed_and_size_give_the_same_bits(scenes):
    # Oracle: invariance under repetition, whatever was rendered in between.
    again = render_scene(7, SIZE)
    np.testing.assert_array_equal(again.image, scenes[7].image)
    np.testing.assert_array_equal(again.instance_ids, scenes[7].instance_ids)


def test_different_seeds_give_different_scenes(scenes):
    # Oracle: 40 seeds, 40 distinct images and 40 distinct annotations.
    assert len({scene.image.tobytes() for scene in scenes}) == 40
    assert len({scene.instance_ids.tobytes() for scene in scenes}) == 40


@sweep("size", [(64, 128), (65, 131), (128, 128), (100, 333), (160, 320)])
def test_any_size_shows_the_same_scene(size, scenes):
    # Oracle: the annotation at SIZE, enlarged or reduced to the same aspect, agrees where the aspect is the same.
    scene = render_scene(3, size)
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.instance_ids.shape == size and scene.instance_ids.dtype == np.uint16
    assert scene.label_ids.shape == size and scene.label_ids.dtype == np.uint8
    if size[1] == 2 * size[0]:
        rows = (np.arange(size[0]) + 0.5) * SIZE[0] / size[0]
        columns = (np.arange(size[1]) + 0.5) * SIZE[1] / size[1]
        expected = scenes[3].label_ids[np.ix_(rows.astype(int), columns.astype(int))]
        assert (scene.label_ids == expected).mean() > 0.85


@pytest.mark.parametrize("size", [(63, 128), (64, 127)])
def test_too_small_a_size_is_refused(size):
    with pytest.raises(ValueError, match=r"at least 64 × 128 pixels, not"):
        render_scene(0, size)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match=r"must not be negative, but is -1"):
        render_scene(-1, SIZE)


def test_every_instance_id_is_valid_in_cityscapes(scenes):
    # Oracle: the label table of cityscapesscripts; instances of a label are numbered from 0 on without a gap.
    for scene in scenes:
        numbers: dict[int, list[int]] = {}
        for code in np.unique(scene.instance_ids).tolist():
            label_id, number = (code, None) if code < 1000 else divmod(code, 1000)
            assert label_id in id2label
            if number is not None:
                assert label_id in THINGS
                numbers.setdefault(label_id, []).append(number)
        assert all(found == list(range(len(found))) for found in numbers.values())


def test_label_ids_follow_from_instance_ids(scenes):
    # Oracle: a loop over pixels.
    scene = scenes[0]
    for code, label_id in zip(scene.instance_ids.ravel().tolist(), scene.label_ids.ravel().tolist(), strict=True):
        assert label_id == (code if code < 1000 else code // 1000)


@sweep("label", EVALUATED)
def test_each_evaluated_class_is_in_a_quarter_of_the_scenes(label, scenes):
    # Oracle: counting; what a small network must learn from 240 scenes has to be there often enough.
    assert sum(label.id in scene.label_ids for scene in scenes) >= 10


def test_crowds_void_and_scenes_without_things_occur(scenes):
    # Oracle: counting over the fixed seeds.
    codes = [set(np.unique(scene.instance_ids).tolist()) for scene in scenes]
    void = {label.id for label in labels if label.ignoreInEval}
    assert sum(bool(found & THINGS) for found in codes) >= 5
    assert sum(bool(found & void) for found in codes) >= 10
    without = [found for found in codes if all(code < 1000 and code not in THINGS for code in found)]
    assert 1 <= len(without) <= 8


def test_scenes_hold_tiny_and_large_instances(scenes):
    # Oracle: areas counted with numpy.
    areas = [
        area
        for scene in scenes
        for code, area in zip(*np.unique(scene.instance_ids, return_counts=True), strict=True)
        if code >= 1000
    ]
    assert min(areas) < 0.001 * SIZE[0] * SIZE[1] < 0.05 * SIZE[0] * SIZE[1] < max(areas)


def test_images_are_exposed_like_photographs(scenes):
    # Oracle: histogram; neither black nor burnt out, and with contrast.
    for scene in scenes:
        assert 50 < scene.image.mean() < 190
        assert scene.image.std() > 20
        assert (scene.image.min(axis=2) > 253).mean() < 0.25


def test_instances_are_numbered_and_the_smallest_become_crowd():
    # Oracle: worked by hand; 20000 pixels, so that an instance needs more than 3.
    owner = np.full((100, 200), 1, np.int32)
    owner[:10, :10] = 2
    owner[20, :3] = 3
    owner[30:40, :10] = 4
    codes = encode_instances(owner, [0, 23, 26, 26, 26], [False, False, True, True, True])
    assert codes[0, 0] == 26000 and codes[20, 0] == 26 and codes[30, 0] == 26001 and codes[99, 199] == 23


def test_ground_coordinates_project_back_to_their_pixels(canvas):
    # Oracle: round trip through the projection.
    camera = canvas.camera
    x, z, depth = camera.ground(100)
    world = np.stack([x.ravel(), np.zeros(x.size), z.ravel()], axis=1)
    pixels = camera.project(camera.to_camera(world)).reshape(*x.shape, 2)
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(100, camera.height) + 0.5)
    np.testing.assert_allclose(pixels[..., 0], columns, atol=1e-2)
    np.testing.assert_allclose(pixels[..., 1], rows, atol=1e-2)
    assert depth.shape == (camera.height - 100, 1)


def test_homography_of_a_plane_equals_projecting_its_points(canvas):
    # Oracle: projecting the points one by one.
    origin, across, up = np.array([2.0, 0.0, 6.0]), np.array([0.3, 0.0, 9.0]), np.array([0.0, 5.0, 0.0])
    matrix = canvas.camera.plane_homography(origin, across, up)
    for a, b in ((0.0, 0.0), (1.0, 0.0), (0.3, 0.7), (1.0, 1.0)):
        point = (origin + a * across + b * up)[None]
        mapped = matrix @ np.array([a, b, 1.0])
        np.testing.assert_allclose(
            mapped[:2] / mapped[2], canvas.camera.project(canvas.camera.to_camera(point))[0], rtol=1e-9
        )


def test_polygons_are_cut_at_the_near_plane():
    # Oracle: worked by hand; the edge from depth 0 to depth 1 meets the plane at depth 0.5 half way.
    triangle = np.array([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    cut = clip_near(triangle)
    assert sorted(map(tuple, cut.round(6).tolist())) == [
        (0.0, 0.0, 1.0),
        (0.0, 1.0, 0.5),
        (1.0, 1.0, 0.5),
        (2.0, 0.0, 1.0),
    ]
    assert len(clip_near(triangle - [0, 0, 2])) == 0


def test_size_on_the_image_follows_depth(canvas):
    # Oracle: the pinhole law; twice as far is half as tall.
    heights = []
    for z in (10.0, 20.0):
        parts, _ = person(np.random.default_rng(5), standing=True)
        owner = canvas.instance(PERSON)
        draw_parts(canvas, Pose(0.5, z), parts, owner)
        rows = np.nonzero((canvas.owner == owner).any(1))[0]
        heights.append(rows[-1] - rows[0] + 1)
        canvas.owner[:] = 0
    assert heights[0] / heights[1] == pytest.approx(2.0, rel=0.08)


def test_a_rider_sits_on_the_bicycle_as_a_segment_of_its_own(canvas):
    # Oracle: geometry; the rider's centre of mass is above the bicycle's, and the two touch.
    vehicle, rider = canvas.instance(BICYCLE), canvas.instance(RIDER)
    draw_parts(canvas, Pose(0.5, 7.0, 1.2), bicycle(np.random.default_rng(1), ridden=True), vehicle, rider)
    rows = [np.nonzero(canvas.owner == owner)[0] for owner in (vehicle, rider)]
    assert rows[1].mean() < rows[0].mean() - 10
    assert rows[1].max() > rows[0].min()


def test_what_is_drawn_later_hides_what_was_drawn_before(canvas):
    # Oracle: the nearer box drawn alone has the same pixels.
    far, near = canvas.instance(CAR), canvas.instance(CAR)
    panels = box((-1, 1), (0, 2), (-1, 1), (0.5, 0.5, 0.5))
    draw_panels(canvas, Pose(0.5, 20.0), panels, far)
    whole = (canvas.owner == far).sum()
    draw_panels(canvas, Pose(1.2, 10.0), panels, near)
    seen = canvas.owner == near
    hidden = whole - (canvas.owner == far).sum()
    canvas.owner[:] = 0
    draw_panels(canvas, Pose(1.2, 10.0), panels, near)
    np.testing.assert_array_equal(canvas.owner == near, seen)
    assert 0 < hidden < whole


def test_painters_order_puts_whatever_is_beyond_first():
    # Oracle: a naive check of every pair in disjoint boxes along one lane, in random order.
    rng = np.random.default_rng(0)
    starts = rng.permutation(np.arange(5, 65, 6)).astype(float)
    extents = [
        (-1.0 + shift, 1.0 + shift, start, start + 5)
        for start, shift in zip(starts, rng.normal(0, 0.2, 10), strict=True)
    ]
    order = painters_order(extents)
    assert sorted(order) == list(range(10))
    for i, first in enumerate(order):
        for second in order[i + 1 :]:
            assert extents[first][2] >= extents[second][3]


def test_noise_wraps_around_without_a_seam():
    # Oracle: differences across the border are no larger than inside.
    tile = noise_tile(1.6)
    inside = np.abs(np.diff(tile, axis=0)).max()
    assert np.abs(tile[0] - tile[-1]).max() <= inside * 1.5
    assert 0 <= tile.min() < tile.max() <= 1 and tile.mean() == pytest.approx(0.5, abs=0.02)
