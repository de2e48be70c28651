from itertools import chain

import pytest
from torch.utils.data import DataLoader

from efficientps.data.loading.samplers import EvaluationSampler, SampleIndex, TrainingSampler
from tests.sweep import sweep


def batches(sampler):
    """Cut a sampler into batches as a loader does."""
    loader = DataLoader(range(100), batch_size=sampler.batch_size, sampler=sampler, drop_last=True)
    return [[item.position for item in batch] for batch in loader.batch_sampler]


@sweep("world_size", [1, 2, 3])
def test_ranks_share_the_batches_of_one_process(world_size):
    """Oracle: invariance; N ranks with batch b see, step by step, the samples of one rank with batch N·b."""
    joint = batches(TrainingSampler(range(40), batch_size=2 * world_size, seed=5))
    ranks = [
        batches(TrainingSampler(range(40), batch_size=2, seed=5, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == joint
    used = list(chain(*joint))
    assert len(used) == len(set(used)) == 40 // (2 * world_size) * 2 * world_size


def test_epochs_and_seeds_shuffle_differently_and_reproducibly():
    """Oracle: equal for equal (seed, epoch), different otherwise, and the epoch travels with each index."""

    def order(seed, epoch):
        sampler = TrainingSampler(range(50), batch_size=5, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert {item.epoch for item in order(0, 7)} == {7}
    orders = [tuple(item.position for item in order(*key)) for key in ((0, 0), (0, 1), (1, 0))]
    assert len(set(orders)) == 3 and all(set(each) == set(range(50)) for each in orders)


def test_an_epoch_goes_on_from_any_batch():
    """Oracle: the tail of the whole epoch."""
    sampler = TrainingSampler(range(23), batch_size=2, seed=3, rank=1, world_size=2)
    sampler.set_epoch(4)
    whole = list(sampler)
    assert len(whole) == len(sampler) == 10 and all(isinstance(item, SampleIndex) for item in whole)
    sampler.resume(4, first_batch=3)
    assert list(sampler) == whole[6:] and len(sampler) == 10
    sampler.set_epoch(4)  # as a trainer says once more
    assert list(sampler) == whole[6:]
    sampler.set_epoch(5)
    assert len(list(sampler)) == 10


def test_a_set_smaller_than_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"has 5 images, fewer than one batch of 6 \(3 on each of 2 processes\)"):
        TrainingSampler(range(5), batch_size=3, seed=0, world_size=2)


@sweep("length", [0, 1, 5, 6, 7])
@sweep("world_size", [1, 2, 3, 8])
def test_evaluation_sees_each_sample_once(length, world_size):
    """Oracle: the multiset of all ranks' indices is the data set."""
    samplers = [EvaluationSampler(range(length), rank=rank, world_size=world_size) for rank in range(world_size)]
    shares = [list(sampler) for sampler in samplers]
    assert sorted(chain(*shares)) == list(range(length))
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1 and all(share == sorted(share) for share in shares)
