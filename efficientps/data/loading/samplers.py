"""Samplers for training and evaluation: the samples of each rank and their order.

Both samplers derive from torch's ``DistributedSampler``, which Lightning recognises and leaves in place, whatever its
``use_distributed_sampler`` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, NamedTuple, cast

import numpy as np
import torch.distributed
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler


def rank_and_world_size(trainer: Any) -> tuple[int, int]:
    """Return this process' number and the number of processes: of a Lightning trainer, or else of torch.distributed."""
    if trainer is not None:
        return trainer.global_rank, trainer.world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class SampleIndex(NamedTuple):
    """Index of a training sampler. It contains the epoch, so that persistent workers know it."""

    position: int
    epoch: int


class TrainingSampler(DistributedSampler[SampleIndex]):
    """Shuffles by (seed, epoch) and deals whole global batches out to the ranks.

    Each epoch is one permutation of the data set, cut into global batches of ``world_size * batch_size`` samples, of
    which rank r takes the r-th part. So one rank with batch N·b sees, step by step, the same samples as N ranks with
    batch b; every rank makes the same number of steps; the incomplete last batch is left out. Use it with a loader of
    the same ``batch_size``.
    """

    def __init__(self, dataset: Sized, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """Prepare epoch 0.

        Args:
            dataset: anything with a length.
            batch_size: samples in a batch of one rank.
            seed: seed of the permutations, the same on every rank.
            rank: this process, 0 .. world_size - 1.
            world_size: number of processes.

        Raises:
            ValueError: if the data set has fewer samples than one global batch.
        """
        global_batch = batch_size * world_size
        if len(dataset) < global_batch:
            raise ValueError(
                f"The training set has {len(dataset)} images, fewer than one batch of {global_batch} "
                f"({batch_size} on each of {world_size} processes); reduce the batch size."
            )
        super().__init__(cast("Dataset[SampleIndex]", dataset), num_replicas=world_size, rank=rank, seed=seed)
        self.batch_size = batch_size
        self.num_batches = len(dataset) // global_batch
        self.first_batch = 0

    def resume(self, epoch: int, first_batch: int) -> None:
        """Begin this epoch, whenever it is iterated, with a batch (of this rank) that is not its first one."""
        super().set_epoch(epoch)
        self.first_batch = first_batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the next iterations; another epoch than the resumed one is seen whole."""
        if epoch != self.epoch:
            self.first_batch = 0
        super().set_epoch(epoch)

    def __iter__(self) -> Iterator[SampleIndex]:
        """Yield this rank's samples, batch after batch."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(cast(Sized, self.dataset)))
        used = order[: self.num_batches * self.batch_size * self.num_replicas]
        mine = used.reshape(self.num_batches, self.num_replicas, self.batch_size)[self.first_batch :, self.rank]
        epoch = self.epoch
        return (SampleIndex(position, epoch) for position in mine.flatten().tolist())

    def __len__(self) -> int:
        """Return the number of samples that this rank sees in a whole epoch, a resumed one too."""
        return self.num_batches * self.batch_size


class EvaluationSampler(DistributedSampler[int]):
    """Deals every sample to exactly one rank, in order: rank r takes r, r + world_size, ...; none is repeated.

    torch's own sampler repeats samples until all ranks have as many, which changes a metric.
    """

    def __init__(self, dataset: Sized, *, rank: int = 0, world_size: int = 1) -> None:
        """Prepare the sampler of one rank; lengths of ranks may differ by one, and may be zero."""
        super().__init__(cast("Dataset[int]", dataset), num_replicas=world_size, rank=rank, shuffle=False)

    def _mine(self) -> range:
        return range(self.rank, len(cast(Sized, self.dataset)), self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices in increasing order."""
        return iter(self._mine())

    def __len__(self) -> int:
        """Return the number of samples that this rank sees."""
        return len(self._mine())
