"""From queries to a panoptic map: the published algorithm, written naively, and each of its known traps."""

import random
from unittest.mock import Mock

import torch

from efficientps.networks.image_logits import ImageOnCanvas
from efficientps.networks.queries import post_processing
from efficientps.networks.queries.post_processing import panoptic_map
from tests.networks.test_image_logits import naive as interpolated
from tests.sweep import sweep

NUM_STUFF = 3


def naive(mask_logits, train_ids, canvas, image_size, size, merge):
    """The algorithm of PostProcessPanoptic, pixel by pixel in float64, at the size of the image file.

    Returns the query of each pixel and those that are left.

    ``merge`` is "first" for the authors' code, in which classes are merged in the first round alone, and "union" for
    merging in every round, with the area of all of a class' pixels.
    """
    height, width = size
    big = interpolated(mask_logits, canvas, image_size, size).softmax(dim=0)
    queries = list(range(len(train_ids)))
    merging = True
    while True:
        owner = [[None] * width for _ in range(height)]
        areas = dict.fromkeys(queries, 0)
        for y in range(height):
            for x in range(width):
                best = None
                for query in queries:
                    if best is None or big[query, y, x] > big[best, y, x]:
                        best = query
                if best is not None and merging and train_ids[best] < NUM_STUFF:
                    best = next(q for q in queries if train_ids[q] == train_ids[best])
                owner[y][x] = best
                if best is not None:
                    areas[best] += 1
        small = [q for q in queries if areas[q] <= 4]
        if merge == "union":
            representative = {
                q: next(o for o in queries if train_ids[o] == train_ids[q]) if train_ids[q] < NUM_STUFF else q
                for q in queries
            }
            small = [q for q in queries if areas[representative[q]] <= 4]
        else:
            merging = False
        if not small:
            return owner, [q for q in queries if areas[q] > 0]
        queries = [q for q in queries if q not in small]


@sweep("settle", ["_settle_on_cpu", "_settle_on_device"])
@sweep("merge", ["union", "first"])
def test_equals_a_naive_implementation(merge, settle, monkeypatch):
    monkeypatch.setattr(post_processing, "_settle_on_cpu", getattr(post_processing, settle))
    monkeypatch.setattr(post_processing, "_MAPS_AT_A_TIME", 3)
    monkeypatch.setattr(post_processing, "_AREAS_AT_A_TIME", 2)
    monkeypatch.setattr(post_processing, "_PIXELS_AT_A_TIME", 60)
    dropped = merged = 0
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        number = 1 + seed % 8
        logits = 2 * torch.randn(number, 4, 6, generator=generator)
        train_ids = torch.randint(0, 6, (number,), generator=generator).tolist()
        scores = [0.9 + 0.01 * i for i in range(number)]
        canvas, image_size = (16, 24), (11, 13)
        size = (image_size, (17, 25), (1, 31))[seed % 3]
        options = {"canvas": canvas, "image_size": image_size, "size": size, "num_stuff": NUM_STUFF}
        found = panoptic_map(logits, train_ids, scores, stuff_merge=merge, **options)
        owner, left = naive(logits, train_ids, canvas, image_size, size, merge)
        number_of = {query: i for i, query in enumerate(sorted(left), start=1)} | {None: 0}
        assert found.segment_ids.tolist() == [[number_of[query] for query in row] for row in owner]
        assert [s.train_id for s in found.segments] == [train_ids[query] for query in sorted(left)]
        assert [s.score for s in found.segments] == [scores[query] for query in sorted(left)]
        stuff = [i for i in train_ids if i < NUM_STUFF]
        merged += len(stuff) > len(set(stuff))
        dropped += len(left) < number
    assert merged > 5
    assert dropped > 5


@sweep("merge", ["union", "first"])
@sweep("rounds", [1, 2, 5])
def test_both_ways_to_drop_segments_agree(merge, rounds, monkeypatch):
    # Oracle: the way of the CPU. Small images, on which much is dropped; equal logits, and some that are no numbers or
    # infinite; however many rounds the host lets pass before it looks. What is left after a round only gains pixels:
    # the second round is the last, or the third where merged stuff falls apart after the first.
    monkeypatch.setattr(post_processing, "_ROUNDS_AT_ONCE", rounds)
    monkeypatch.setattr(post_processing, "_MAPS_AT_A_TIME", 4)
    most_rounds = none_left = 0
    for seed in range(150):
        generator = torch.Generator().manual_seed(seed)
        number = 1 + seed % 17
        logits = torch.randn(number, 3, 4, generator=generator).round(decimals=seed % 3)
        if seed % 5 == 0:
            logits[torch.rand(logits.shape, generator=generator) > 0.7] = (torch.nan, torch.inf, -torch.inf)[seed % 3]
        train_ids = torch.randint(0, 6, (number,), generator=generator).tolist()
        first = [train_ids.index(i) if i < NUM_STUFF else q for q, i in enumerate(train_ids)]
        image_size = (1 + seed % 6, 5)
        size = image_size if seed % 2 else (1 + seed % 13, 9)
        place = ImageOnCanvas((3, 4), (8, 8), image_size, size, logits.device)
        masks = post_processing.QueryMasks(logits, place)
        arguments = (masks, first, merge)
        owner, is_segment, left = post_processing._settle_on_cpu(*arguments)
        counted = Mock(wraps=post_processing._areas)
        with monkeypatch.context() as patch:
            patch.setattr(post_processing, "_areas", counted)
            owner_there, is_segment_there, left_there = post_processing._settle_on_device(*arguments)
        assert left_there == left
        assert torch.equal(is_segment_there, is_segment)
        if left:
            assert torch.equal(owner_there, owner)
        most_rounds, none_left = max(most_rounds, counted.call_count), none_left + (not left)
    assert most_rounds == max(rounds, {"union": 2, "first": 3}[merge])
    assert none_left > 5


def in_columns(*widths, height=4, low=-5.0, high=5.0):
    """Return logits, on grids of stride 1, of queries that each own some columns."""
    logits = torch.full((len(widths), height, sum(widths)), low)
    start = 0
    for query, width in enumerate(widths):
        logits[query, :, start : start + width] = high
        start += width
    return logits


def mapped(logits, train_ids, **options):
    size = tuple(logits.shape[-2:])
    arguments = {"canvas": size, "image_size": size, "num_stuff": NUM_STUFF, **options}
    return panoptic_map(logits, train_ids, [0.9] * len(train_ids), **arguments)


def test_ids_do_not_collide_after_stuff_is_merged():
    # sky, car, sky, person, car: transformers 5.23 gives person and the first car the same id.
    found = mapped(in_columns(2, 2, 2, 2, 2), [0, 4, 0, 5, 4])
    assert [(s.id, s.train_id) for s in found.segments] == [(1, 0), (2, 4), (3, 5), (4, 4)]
    assert found.segment_ids[0].tolist() == [1, 1, 2, 2, 1, 1, 3, 3, 4, 4]
    assert [s.is_thing for s in found.segments] == [False, True, True, True]


def test_things_of_a_class_stay_apart():
    assert [s.id for s in mapped(in_columns(3, 3), [4, 4]).segments] == [1, 2]


def test_merged_stuff_keeps_its_pixels():
    # The second sky is more sure of its half than the first; nothing else wants it but a car that is less so.
    logits = in_columns(3, 3, 3)
    logits[2, :, 3:6] = 0.0
    assert mapped(logits, [0, 0, 4]).segment_ids[0].tolist() == [1] * 6 + [2] * 3
    # In the authors' code the second query is dropped, and the car takes its pixels.
    assert mapped(logits, [0, 0, 4], stuff_merge="first").segment_ids[0].tolist() == [1] * 3 + [2] * 6


def test_segments_of_four_pixels_are_dropped_and_of_five_kept():
    assert mapped(in_columns(4, 5, height=1), [4, 5]).segment_ids.tolist() == [[1] * 9]
    assert [s.train_id for s in mapped(in_columns(4, 5, height=1), [4, 5]).segments] == [5]
    assert len(mapped(in_columns(5, 5, height=1), [4, 5]).segments) == 2


def test_small_parts_of_stuff_count_together():
    # Two queries of one class with 3 pixels each: 6 in all.
    found = mapped(in_columns(3, 6, 3, height=1), [0, 4, 0])
    assert found.segment_ids.tolist() == [[1] * 3 + [2] * 6 + [1] * 3]


def test_every_pixel_has_a_segment_if_there_is_one_and_none_if_all_are_small():
    logits = torch.full((1, 4, 4), -20.0)
    assert mapped(logits, [4]).segment_ids.unique().tolist() == [1]
    for nothing in (mapped(torch.zeros(0, 4, 4), []), mapped(torch.zeros(1, 2, 2), [4])):
        assert not nothing.segment_ids.any()
        assert nothing.segments == []
        assert nothing.segment_ids.dtype == torch.int32


def test_padding_does_not_stretch_the_map():
    # Oracle: the edge between two segments is at 32 pixels of the canvas, wherever the image ends.
    logits = torch.full((2, 8, 16), -5.0)
    logits[0, :, :8], logits[1, :, 8:] = 5.0, 5.0
    found = mapped(logits, [4, 5], canvas=(32, 64), image_size=(20, 40))
    assert found.segment_ids.shape == (20, 40)
    assert (found.segment_ids == 1).sum() == 20 * 32
    assert (found.segment_ids[:, 32:] == 2).all()


def test_a_thousand_random_predictions_have_no_id_twice():
    generator = torch.Generator().manual_seed(0)
    chance = random.Random(0)
    segments = 0
    for _ in range(1000):
        number = chance.randrange(0, 25)
        logits = 3 * torch.randn(number, 6, 8, generator=generator)
        train_ids = [chance.randrange(6) for _ in range(number)]
        found = mapped(
            logits, train_ids, canvas=(24, 32), image_size=(chance.randrange(1, 25), chance.randrange(1, 33))
        )
        ids = [segment.id for segment in found.segments]
        assert ids == list(range(1, len(ids) + 1))
        present, areas = found.segment_ids.unique(return_counts=True)
        assert present.tolist() == (ids or [0])
        assert areas.min() > 4 or not ids
        stuff = [segment.train_id for segment in found.segments if not segment.is_thing]
        assert len(stuff) == len(set(stuff))
        segments += len(ids)
    assert segments > 3000
