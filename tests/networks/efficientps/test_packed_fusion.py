"""The fusion of all instances at once against that of one instance after the other."""

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.scenes import semantic_logits, street_instances
from efficientps.networks.efficientps import packed_fusion, panoptic_fusion
from efficientps.networks.efficientps.panoptic_fusion import panoptic_fusion as fuse
from efficientps.structures import InstancePredictions
from tests.sweep import sweep

NUM_STUFF, NUM_THINGS = 3, 2
SIZES = [(24, 31), (1, 1), (1, 40), (40, 1), (33, 70)]


@pytest.fixture
def fuse_at_once(monkeypatch):
    """The fusion as a GPU does it, with other options of ``draw_packed``."""

    def fused(*args, draw=(), **options):
        with monkeypatch.context() as patch:
            patch.setattr(panoptic_fusion, "_draws_at_once", lambda device: True)
            patch.setattr(panoptic_fusion, "draw_packed", partial(packed_fusion.draw_packed, **dict(draw)))
            return fuse(*args, **options)

    return fused


def clusters(seed: int, number: int, size: tuple[int, int]) -> tuple[torch.Tensor, InstancePredictions]:
    """Instances in clusters; every other scene has rounded logits and scores, so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    extents = torch.tensor([width, height])

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    centres = (uniform(1 + number // 5, 2) * extents)[torch.arange(number) % (1 + number // 5)]
    centres = centres + (uniform(number, 2) - 0.5) * 0.3 * height
    boxes = torch.cat([centres, centres], dim=1) + 0.25 * torch.tensor([-1, -1, 1, 1]) * (
        uniform(number, 2) * extents
    ).repeat(1, 2)
    boxes[uniform(number) < 0.05] = torch.tensor([3.0, 3.0, 3.2, 9.0])  # not one pixel
    semantic = 3 * torch.randn(NUM_STUFF + NUM_THINGS, height, width, generator=generator)
    logits = 4 * torch.randn(number, 5, 7, generator=generator) + 2
    scores = uniform(number)
    if seed % 2:
        semantic, logits, scores = semantic.round(), logits.round(), (4 * scores).round() / 4
        logits = torch.where((uniform(number) < 0.4)[:, None, None], logits[:1], logits)
    if seed % 5 == 0:  # what is no number never wins
        logits.view(-1)[::7], logits.view(-1)[::11] = torch.nan, -torch.inf
    frames = boxes if seed % 3 else torch.tensor([[0.0, 0.0, width + 9.0, height + 5.0]]).repeat(number, 1)
    labels = torch.randint(NUM_THINGS, (number,), generator=generator)
    return semantic, InstancePredictions(scores, labels, boxes, logits, frames)


@sweep("number", [0, 1, 2, 12, 40, 150])
def test_equals_one_instance_after_the_other(number, fuse_at_once):
    """Oracle: the loop over instances, for whole lists, groups of a few windows, and too few rounds to begin with."""
    segments = 0
    for seed in range(20):
        semantic, instances = clusters(seed, number, SIZES[seed % len(SIZES)])
        options = {
            "num_stuff": NUM_STUFF,
            "score_thresh": (0.1, 0.5, 0.0)[seed % 3],
            "overlap_thresh": (0.5, 0.2, 0.8, 0.0)[seed % 4],
            "min_stuff_area": (1, 30)[seed // 2 % 2],
            "mask_logit_scale": (1.0, 4.0)[seed // 3 % 2],
        }
        expected = fuse(semantic, instances, **options)
        for draw in ({}, {"entries_at_once": 60}, {"rounds": 2}, {"entries_at_once": 1, "rounds": 2}):
            got = fuse_at_once(semantic, instances, draw=draw, **options)
            assert torch.equal(got.segment_ids, expected.segment_ids)
            assert got.segment_ids.dtype == expected.segment_ids.dtype
            assert got.segments == expected.segments
        segments += sum(segment.is_thing for segment in expected.segments)
    assert segments >= 20 * (number > 2)


@pytest.mark.parametrize("entries_at_once", [100, 10**6])
def test_a_chain_in_which_every_decision_hangs_on_the_one_before(entries_at_once, fuse_at_once):
    """Oracle: hand-worked; each mask lies by 6 of 10 pixels on the one before, so every second one is dropped."""
    number = 40
    instances, semantic = chain(number)
    panoptic = fuse_at_once(semantic, instances, draw={"entries_at_once": entries_at_once}, num_stuff=1)
    assert [segment.score for segment in panoptic.segments] == instances.scores[::2].tolist()
    # Of 8 pixels from one to the next that is kept, 2 lie on both: the better one has them.
    assert panoptic.segment_ids[0, :26].tolist() == [1] * 10 + [2] * 8 + [3] * 8


@sweep("number, times", [(1, 1), (4, 1), (5, 2), (17, 3)])
def test_a_chain_as_long_as_the_rounds_is_drawn_once(number, times, fuse_at_once, monkeypatch):
    """Oracle: hand-worked; 4 rounds, then 16, then 64."""
    calls, draw = [], packed_fusion._draw
    monkeypatch.setattr(packed_fusion, "_draw", lambda *args, **options: calls.append(0) or draw(*args, **options))
    instances, semantic = chain(number)
    panoptic = fuse_at_once(semantic, instances, num_stuff=1)
    assert len(panoptic.segments) == (number + 1) // 2
    assert len(calls) == times


def chain(number: int) -> tuple[InstancePredictions, torch.Tensor]:
    """Instances of one row, each of which lies by 6 of its 10 pixels on the one before it; and semantic logits."""
    left = 4.0 * torch.arange(number)
    boxes = torch.stack([left, torch.zeros(number), left + 10, torch.ones(number)], dim=1)
    instances = InstancePredictions(
        scores=torch.linspace(0.9, 0.6, number),
        labels=torch.zeros(number, dtype=torch.int64),
        boxes=boxes,
        mask_logits=torch.full((number, 1, 1), 9.0),
        mask_frames=boxes,
    )
    return instances, torch.zeros(2, 1, 4 * number + 6)


class Operations(TorchDispatchMode):
    """Counts all operations, and those that make the host wait for a device."""

    WAITING = ("_local_scalar_dense", "nonzero", "bincount", "is_nonzero", "unique", "_unique2", "repeat_interleave")

    def __init__(self):
        super().__init__()
        self.number, self.waiting = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        self.waiting += func.overloadpacket.__name__ in self.WAITING
        return func(*args, **(kwargs or {}))


def test_as_many_operations_for_a_hundred_instances_as_for_five(monkeypatch):
    """Oracle: by contract, where nothing is dropped in a chain; and nothing waits but for the areas at the end."""
    counted = []
    original = packed_fusion.draw_packed

    def counting(*args, **options):
        with Operations() as operations:
            result = original(*args, **options)
        counted.append((operations.number, operations.waiting))
        return result

    monkeypatch.setattr(panoptic_fusion, "_draws_at_once", lambda device: True)
    monkeypatch.setattr(panoptic_fusion, "draw_packed", counting)
    for number in (5, 30, 100):
        fuse(semantic_logits((128, 256)), street_instances(number, (128, 256)), num_stuff=11)
    assert counted[0] == counted[1] == counted[2]


def test_a_label_without_a_channel_is_refused():
    """A GPU would read beyond the logits."""
    semantic, instances = clusters(1, 3, (8, 8))
    instances.labels[1] = NUM_THINGS
    with pytest.raises(ValueError, match=r"thing_ids from . to 2; the semantic logits have channels for 0\.\.1"):
        fuse(semantic, instances, num_stuff=NUM_STUFF, score_thresh=-1.0)


@pytest.mark.gpu
@pytest.mark.parametrize("number", [0, 1, 40, 150])
def test_a_gpu_draws_at_once_what_it_draws_one_by_one(number, monkeypatch):
    """Oracle: the loop over instances on the same GPU, bit by bit; the CPU's fusion but for rounding."""
    for seed in range(6):
        semantic, instances = clusters(seed, number, (33, 70))
        on_gpu = InstancePredictions(*(vars(instances)[name].cuda() for name in vars(instances)))
        options = {"num_stuff": NUM_STUFF, "score_thresh": 0.1, "min_stuff_area": 1}
        got = fuse(semantic.cuda(), on_gpu, **options)
        with monkeypatch.context() as patch:
            patch.setattr(panoptic_fusion, "_draws_at_once", lambda device: False)
            expected = fuse(semantic.cuda(), on_gpu, **options)
        assert torch.equal(got.segment_ids, expected.segment_ids)
        assert got.segments == expected.segments
        on_cpu = fuse(semantic, instances, **options)
        assert len(got.segments) == len(on_cpu.segments)
