"""Target assignment against loops over objects, levels and cells, written from the definition."""

import math
import random

import pytest
import torch

from efficientps.networks.efficientps.solov2.targets import (
    assign_cells,
    assign_cells_of_batch,
    default_scale_ranges,
    mass_centres,
    pixels_of_lines,
    stride4_masks,
)
from efficientps.structures import InstanceTargets
from tests.sweep import sweep

NUM_THINGS = 4
CONFLICTS = ["smaller", "last", "all"]


def make_targets(boxes, canvas, *, holes=None, labels=None) -> InstanceTargets:
    """Return objects that fill their boxes (xyxy) but for the pixels of ``holes``, bool [N, H, W]."""
    masks = torch.zeros(len(boxes), *canvas, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    if holes is not None:
        masks &= ~holes
    labels = torch.arange(len(boxes)) % NUM_THINGS if labels is None else torch.tensor(labels, dtype=torch.int64)
    return InstanceTargets(labels=labels, boxes=torch.tensor(boxes).float().view(-1, 4), masks=masks)


def random_case(seed):
    """Return targets and options: ragged masks, borders, copies, objects without pixels, none, more than cells."""
    rng = random.Random(seed)
    height, width = rng.choice([(16, 24), (24, 16), (32, 64), (20, 20)])
    levels = rng.randint(1, 3)
    largest = rng.choice([1, 2, 5, 9])
    grids = [(rng.randint(1, largest), rng.randint(1, largest)) for _ in range(levels)]
    # Integer ends, which the sizes of square boxes meet exactly.
    ranges = [(low := rng.randint(0, 8), low + rng.choice([0, 2, 6, math.inf])) for _ in range(levels)]
    boxes = []
    for _ in range(rng.choice([0, 1, 2, 5, 12])):
        x0, y0 = rng.randrange(width), rng.randrange(height)
        x1, y1 = rng.randint(x0 + 1, width), rng.randint(y0 + 1, height)
        side = min(x1 - x0, y1 - y0)
        kind = rng.choice(["box", "square", "border", "copy", "last corner"])
        if kind == "square":
            x1, y1 = x0 + side, y0 + side
        elif kind == "border":
            x0, y0 = rng.choice([(0, y0), (x0, 0), (0, 0)])
        elif kind == "last corner":
            x0, y0, x1, y1 = width - side, height - side, width, height
        elif kind == "copy" and boxes:
            x0, y0, x1, y1 = rng.choice(boxes)
        boxes.append((x0, y0, x1, y1))
    generator = torch.Generator().manual_seed(seed)
    holes = torch.rand(len(boxes), height, width, generator=generator) < rng.choice([0, 0, 0.3, 0.97])
    labels = [rng.randrange(NUM_THINGS) for _ in boxes]
    sigma = rng.choice([0.0, 0.2, 0.2, 0.5, 1.0])
    targets = make_targets(boxes, (height, width), holes=holes, labels=labels)
    return targets, {"grids": grids, "scale_ranges": ranges, "sigma": sigma}


def naive_assign(targets, *, grids, scale_ranges, sigma, conflict):
    """Return the category of each cell and the set of pairs (cell, object)."""
    height, width = targets["masks"].shape[1:]
    claims = []  # (cell, object, area), by object
    num_cells = sum(rows * columns for rows, columns in grids)
    for index, (mask, box) in enumerate(zip(targets["masks"].tolist(), targets["boxes"].tolist(), strict=True)):
        pixels = [(y, x) for y, row in enumerate(mask) for x, filled in enumerate(row) if filled]
        if not pixels:
            continue
        centre_y = sum(y + 0.5 for y, _ in pixels) / len(pixels)
        centre_x = sum(x + 0.5 for _, x in pixels) / len(pixels)
        box_width, box_height = box[2] - box[0], box[3] - box[1]
        half_y, half_x = 0.5 * sigma * box_height, 0.5 * sigma * box_width
        first_cell = 0
        for (rows, columns), (low, high) in zip(grids, scale_ranges, strict=True):
            if low <= math.sqrt(box_width * box_height) <= high:
                top, middle_row, bottom = (
                    math.floor(y * rows / height) for y in (centre_y - half_y, centre_y, centre_y + half_y)
                )
                left, middle_column, right = (
                    math.floor(x * columns / width) for x in (centre_x - half_x, centre_x, centre_x + half_x)
                )
                for row in range(rows):
                    for column in range(columns):
                        in_region = top <= row <= bottom and left <= column <= right
                        if in_region and abs(row - middle_row) <= 1 and abs(column - middle_column) <= 1:
                            claims.append((first_cell + row * columns + column, index, len(pixels)))
            first_cell += rows * columns
    owners = {}
    for cell, index, area in claims:
        if conflict != "smaller" or cell not in owners or area <= owners[cell][1]:
            owners[cell] = (index, area)
    labels = targets["labels"].tolist()
    categories = [labels[owners[cell][0]] if cell in owners else NUM_THINGS for cell in range(num_cells)]
    return categories, [(c, i) for c, i, _ in claims if conflict == "all" or owners[c][0] == i]


@sweep("conflict", CONFLICTS)
def test_assignment_equals_a_loop(conflict):
    """Oracle: a loop over objects, levels and cells, 300 random cases for each rule."""
    crowded = shared = pixelless = 0
    for seed in range(300):
        targets, options = random_case(seed)
        categories, pairs = naive_assign(targets, conflict=conflict, **options)
        result = assign_cells(targets, num_things=NUM_THINGS, conflict=conflict, **options)
        assert result.categories.tolist() == categories, seed
        found = list(zip(result.cells.tolist(), result.objects.tolist(), strict=True))
        assert len(found) == len(set(found)) and set(found) == set(pairs), seed
        assert result.objects.tolist() == sorted(result.objects.tolist()), seed
        assert {tensor.dtype for tensor in result} == {torch.int64}
        crowded += len(targets["labels"]) > len(categories)
        shared += len(pairs) > len({cell for cell, _ in pairs})
        pixelless += not targets["masks"].flatten(1).any(1).all()
    assert crowded > 20 and pixelless > 10 and (shared > 20) == (conflict == "all")


def test_smaller_and_last_objects_win_shared_cells():
    """Oracle: hand-worked; of three objects around one centre the second is the smallest, the third the last."""
    targets = make_targets([(0, 0, 8, 8), (3, 3, 5, 5), (2, 2, 6, 6)], (8, 8), labels=[0, 1, 2])
    options = {"num_things": NUM_THINGS, "grids": [(1, 1)], "scale_ranges": [(0, 8)]}
    smaller, last, everyone = (assign_cells(targets, conflict=conflict, **options) for conflict in CONFLICTS)
    assert (smaller.categories.tolist(), smaller.objects.tolist()) == ([1], [1])
    assert (last.categories.tolist(), last.objects.tolist()) == ([2], [2])
    assert (everyone.categories.tolist(), everyone.objects.tolist()) == ([2], [0, 1, 2])


def test_of_identical_masks_the_later_wins():
    """Oracle: definition; a square of 8 pixels touches 4 cells, with or without its copies."""
    targets = make_targets([(4, 4, 12, 12)] * 3, (16, 16))
    options = {"num_things": NUM_THINGS, "grids": [(2, 2)], "scale_ranges": [(0, 99)]}
    for conflict in ("smaller", "last"):
        result = assign_cells(targets, conflict=conflict, **options)
        assert result.objects.tolist() == [2] * 4 and result.cells.tolist() == [0, 1, 2, 3]
        assert result.categories.tolist() == [2] * 4
    assert assign_cells(targets, conflict="all", **options).objects.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_the_centre_is_that_of_the_mask_and_the_region_that_of_the_box():
    """Oracle: hand-worked; an L of a column and a row has its mass near the corner, not in the middle of its box."""
    masks = torch.zeros(1, 20, 20, dtype=torch.bool)
    masks[0, :, 0] = masks[0, 19, :] = True
    targets = InstanceTargets(labels=torch.tensor([0]), boxes=torch.tensor([[0.0, 0, 20, 20]]), masks=masks)
    centres, areas = mass_centres(*pixels_of_lines(masks))
    assert areas.tolist() == [39]
    assert centres[0].tolist() == pytest.approx([(20 * 10 + 19 * 19.5) / 39, (20 * 0.5 + 19 * 10.5) / 39])
    result = assign_cells(targets, num_things=1, grids=[(10, 10)], scale_ranges=[(0, 99)])
    # The centre lies at (5.37, 14.63), the region reaches 2 pixels to each side; a cell has 2 pixels.
    assert {(cell // 10, cell % 10) for cell in result.cells.tolist()} == {(r, c) for r in (6, 7, 8) for c in (1, 2, 3)}


def test_both_ends_of_a_range_are_included():
    """Oracle: definition; squares of side 3 to 7."""
    targets = make_targets([(0, 0, side, side) for side in range(3, 8)], (8, 8))
    result = assign_cells(targets, num_things=NUM_THINGS, grids=[(1, 1)], scale_ranges=[(4, 6)], conflict="all")
    assert result.objects.tolist() == [1, 2, 3]


def test_no_object_has_more_than_nine_cells_on_a_level():
    """Oracle: definition; the region of an object that fills the canvas touches far more."""
    targets = make_targets([(0, 0, 32, 32)], (32, 32))
    result = assign_cells(targets, num_things=NUM_THINGS, grids=[(32, 32)], scale_ranges=[(0, 99)], sigma=1.0)
    assert {(cell // 32, cell % 32) for cell in result.cells.tolist()} == {
        (r, c) for r in (15, 16, 17) for c in (15, 16, 17)
    }


def test_larger_pixels_change_nothing():
    """Oracle: invariance; true only where pixel i has its centre at i + 0.5."""
    for seed in range(50):
        targets, options = random_case(seed)
        ranges = [(2 * low, 2 * high) for low, high in options["scale_ranges"]]
        doubled = InstanceTargets(
            labels=targets["labels"],
            boxes=targets["boxes"] * 2,
            masks=targets["masks"].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2),
        )
        small = assign_cells(targets, num_things=NUM_THINGS, **options)
        large = assign_cells(doubled, num_things=NUM_THINGS, **{**options, "scale_ranges": ranges})
        assert all(torch.equal(a, b) for a, b in zip(small, large, strict=True)), seed


@sweep("conflict", CONFLICTS)
@sweep("number", [0, 3])
def test_without_any_pixel_all_cells_are_background(number, conflict):
    """Oracle: contract; no objects, or objects without pixels, whatever their boxes."""
    targets = InstanceTargets(
        labels=torch.zeros(number, dtype=torch.int64),
        boxes=torch.tensor([[0.0, 0, 0, 0], [0, 0, 8, 8], [1, 1, 2, 2]])[:number],
        masks=torch.zeros(number, 8, 8, dtype=torch.bool),
    )
    grids, ranges = [(2, 3), (1, 1)], [(0, 9)] * 2
    result = assign_cells(targets, num_things=NUM_THINGS, grids=grids, scale_ranges=ranges, conflict=conflict)
    assert result.categories.tolist() == [NUM_THINGS] * 7
    assert result.cells.shape == result.objects.shape == (0,)
    assert {tensor.dtype for tensor in result} == {torch.int64}


@sweep("conflict", CONFLICTS)
def test_a_batch_is_assigned_as_its_images_are(conflict):
    """Oracle: image by image; some without objects, on one canvas."""
    on_one_canvas = [case for case in map(random_case, range(200)) if case[0]["masks"].shape[1:] == (20, 20)]
    for start, (_, options) in enumerate(on_one_canvas):
        images = [targets for targets, _ in on_one_canvas[start : start + 1 + start % 4]]
        batch = assign_cells_of_batch(images, num_things=NUM_THINGS, conflict=conflict, **options)
        assert len(batch) == len(images)
        for ours, targets in zip(batch, images, strict=True):
            expected = assign_cells(targets, num_things=NUM_THINGS, conflict=conflict, **options)
            assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True)), start


def test_every_level_needs_a_range():
    targets = make_targets([(0, 0, 4, 4)], (8, 8))
    with pytest.raises(ValueError, match="There are 2 grids and 1 scale ranges"):
        assign_cells(targets, num_things=NUM_THINGS, grids=[(1, 1), (2, 2)], scale_ranges=[(0, 8)])


def test_autocast_changes_nothing():
    """Oracle: the same without autocast; half precision cannot hold the moments."""
    targets = make_targets([(0, 0, 300, 300), (10, 10, 14, 12)], (320, 320))
    options = {"num_things": NUM_THINGS, "grids": [(40, 80)], "scale_ranges": [(0, math.inf)]}
    with torch.autocast("cpu", torch.bfloat16):
        mixed, mixed_masks = assign_cells(targets, **options), stride4_masks(targets["masks"])
    assert all(torch.equal(a, b) for a, b in zip(mixed, assign_cells(targets, **options), strict=True))
    assert mixed_masks.dtype == torch.float32 and torch.equal(mixed_masks, stride4_masks(targets["masks"]))


def test_stride4_masks_average_blocks():
    """Oracle: a loop over blocks, across borders between chunks; every single pixel leaves a trace."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(19, 8, 12, generator=generator) < 0.4
    masks[17] = False
    masks[17, 5, 11] = True
    result = stride4_masks(masks)
    assert result.dtype == torch.float32 and result.shape == (19, 2, 3)
    for i in range(19):
        for y in range(2):
            for x in range(3):
                assert result[i, y, x] == masks[i, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].sum() / 16
    assert result[17].sum() == 1 / 16
    assert stride4_masks(masks[:0]).shape == (0, 2, 3)


@sweep("short_side, step", [(768, 96), (448, 56), (512, 64)])
def test_scale_ranges_are_the_published_ones(short_side, step):
    """Oracle: WXinlong/SOLO's configurations for short sides of 768, 448 and 512, but for the two open ends."""
    published = [(1, step), (step / 2, 2 * step), (step, 4 * step), (2 * step, 8 * step), (4 * step, 2048)]
    ranges = default_scale_ranges(short_side)
    assert [high for _, high in ranges[:-1]] == [high for _, high in published[:-1]]
    assert [low for low, _ in ranges[1:]] == [low for low, _ in published[1:]]
    assert ranges[0][0] == 0 and ranges[-1][1] == math.inf


@pytest.mark.gpu
@pytest.mark.parametrize("conflict", CONFLICTS)
def test_targets_on_cuda_equal_those_on_cpu(conflict):
    """Oracle: the CPU."""
    for seed in range(50):
        targets, options = random_case(seed)
        moved = InstanceTargets(**{key: value.cuda() for key, value in targets.items()})
        expected = assign_cells(targets, num_things=NUM_THINGS, conflict=conflict, **options)
        result = assign_cells(moved, num_things=NUM_THINGS, conflict=conflict, **options)
        assert all(a.is_cuda and torch.equal(a.cpu(), b) for a, b in zip(result, expected, strict=True)), seed
        assert torch.equal(stride4_masks(moved["masks"]).cpu(), stride4_masks(targets["masks"]))
