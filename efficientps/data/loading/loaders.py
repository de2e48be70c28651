"""Loaders of a data set: batches, worker processes, pinned memory."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch.utils.data import DataLoader, Dataset

from efficientps.data.loading.collate import Sample, collate_readable
from efficientps.data.loading.samplers import EvaluationSampler, TrainingSampler
from efficientps.structures import COARSEST_STRIDE, UnreadableImage


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Options of loading batches.

    Attributes:
        batch_size: training images per process.
        eval_batch_size: images per process in evaluation and prediction.
        num_workers: loading processes of each loader; 0 loads in the training process, "auto" follows the cores.
        seed: seed of shuffling.
    """

    batch_size: int = 3
    eval_batch_size: int = 1
    num_workers: int | Literal["auto"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is out of range.
        """
        for name, least in (("batch_size", 1), ("eval_batch_size", 1), ("num_workers", 0), ("seed", 0)):
            value = getattr(self, name)
            if value != "auto" and value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")


class PinnableBatch(dict[str, Any]):
    """A batch that pins its tensors alone.

    A loader's own pinning visits the thousand plain numbers of the segments one by one, which takes a millisecond of
    the interpreter for three images, and makes lists of pairs.
    """

    def pin_memory(self) -> PinnableBatch:
        """Return the batch with its tensors in memory that a device copies from by itself."""
        pinned = {"images": self["images"].pin_memory()}
        if "segment_ids" in self:
            pinned["segment_ids"] = [segment_ids.pin_memory() for segment_ids in self["segment_ids"]]
        return PinnableBatch(self | pinned)


def make_loader(
    dataset: Dataset[Any],
    sampler: TrainingSampler | EvaluationSampler,
    *,
    batch_size: int,
    num_workers: int,
    pin_memory: bool,
    seed: int,
    canvas: tuple[int, int] | None = None,
    drop_last: bool = False,
) -> DataLoader[Any]:
    """Return a loader whose workers outlive the epoch.

    Args:
        dataset: returns samples with or without maps.
        sampler: says which samples, and in which order.
        batch_size: samples of a batch.
        num_workers: loading processes.
        pin_memory: whether batches go to memory that a CUDA device copies from by itself.
        seed: seed of the numbers that workers begin with; samples use none of them.
        canvas: (H, W) of every batch; None takes what each batch needs.
        drop_last: whether to leave out an incomplete batch.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drop_last,
        collate_fn=partial(_collate, canvas=canvas),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_init_worker,
        # The loader's own numbers are used nowhere; without this it would advance the global generator.
        generator=torch.Generator().manual_seed(seed),
    )


def _collate(samples: Sequence[Sample | UnreadableImage], *, canvas: tuple[int, int] | None) -> PinnableBatch:
    return PinnableBatch(collate_readable(samples, canvas=canvas, multiple=COARSEST_STRIDE))


def _init_worker(worker_id: int) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the main process; keep OpenCV to one thread.

    The main process needs its workers for the step that it still makes, and ends them itself. Albumentations loads
    OpenCV; torch keeps itself to one thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "cv2" in sys.modules:
        cast(Any, sys.modules["cv2"]).setNumThreads(0)
