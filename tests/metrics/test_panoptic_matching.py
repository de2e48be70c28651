import numpy as np
import pytest
import torch

from efficientps.metrics.panoptic_matching import count_matches
from efficientps.structures import PanopticSegmentation, Segment
from tests.sweep import sweep


def test_equals_cityscapesscripts_on_random_maps(random_pair, official_counts):
    # Oracle: cityscapesscripts' core, image by image, on maps with void, crowds, empty and absent classes.
    rng = np.random.default_rng(7)
    pairs = [random_pair(rng) for _ in range(240)]
    seen = {"crowd": 0, "two crowds": 0, "empty": 0, "match": 0, "fp": 0, "fn": 0}
    for (prediction, target), expected in zip(pairs, official_counts(pairs), strict=True):
        counts = count_matches(prediction, target, num_classes=8)
        for train_id in range(8):
            assert counts.iou_sum[train_id].item() == pytest.approx(expected[train_id].iou, abs=1e-12)
            assert counts.tp[train_id] == expected[train_id].tp
            assert counts.fp[train_id] == expected[train_id].fp
            assert counts.fn[train_id] == expected[train_id].fn
        crowds = [segment.train_id for segment in target.segments if segment.is_crowd]
        seen["crowd"] += bool(crowds)
        seen["two crowds"] += len(crowds) > len(set(crowds))
        seen["empty"] += not target.segments
        seen["match"] += int(counts.tp.sum())
        seen["fp"] += int(counts.fp.sum())
        seen["fn"] += int(counts.fn.sum())
    assert min(seen.values()) >= 5, seen  # the random maps do hold what they are meant to test


def test_numbers_of_segments_do_not_matter(random_pair):
    # Oracle: invariance under another numbering and another order of the lists (without crowds, whose order counts).
    rng = np.random.default_rng(3)
    for _ in range(20):
        pair = random_pair(rng)
        renumbered = []
        for segmentation in pair:
            numbers = rng.permutation(100)[: len(segmentation.segments)] + 1
            new = {0: 0} | {s.id: int(n) for s, n in zip(segmentation.segments, numbers, strict=True)}
            ids = np.vectorize(new.get)(segmentation.segment_ids.numpy()).astype(np.int32)
            segments = [s._replace(id=new[s.id], is_crowd=False) for s in segmentation.segments]
            rng.shuffle(order := list(range(len(segments))))
            renumbered.append(PanopticSegmentation(torch.from_numpy(ids), [segments[i] for i in order]))
        plain = [PanopticSegmentation(p.segment_ids, [s._replace(is_crowd=False) for s in p.segments]) for p in pair]
        for before, after in zip(
            count_matches(*plain, num_classes=8), count_matches(*renumbered, num_classes=8), strict=True
        ):
            torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


def road(*rows, ids=(1,)):
    return PanopticSegmentation(torch.tensor(rows, dtype=torch.int32), [Segment(i, 0, False) for i in ids])


@sweep(
    "prediction, target, message",
    [
        (road([1, 1]), road([1], [1]), r"prediction has the size \(1, 2\) and the target \(2, 1\); resize"),
        (road([1, 5]), road([1, 1]), r"map of the prediction has pixels of segment 5, which is not in its segments"),
        (road([1, 1]), road([9, 1]), r"map of the target has pixels of segment 9, which is not in its segments"),
        (road([1, 1], ids=(1, 4)), road([1, 1]), r"prediction lists segment 4, of which its map has no pixel"),
        (road([1, 1]), road([0, 0]), r"target lists segment 1, of which its map has no pixel"),
        (road([1, 1], ids=(1, 1)), road([1, 1]), r"prediction has a segment with id 1, which is twice in the list"),
        (road([1, 1]), road([1, 0], ids=(1, 0)), r"target has a segment with id 0, which is the id of void"),
        (
            PanopticSegmentation(torch.ones(1, 2).int(), [Segment(1, 2, True)]),
            road([1, 1]),
            r"Segment 1 of the prediction has train_id 2; it must be in 0\.\.1",
        ),
    ],
)
def test_bad_input_is_refused(prediction, target, message):
    with pytest.raises(ValueError, match=message):
        count_matches(prediction, target, num_classes=2)
