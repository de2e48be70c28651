"""``data``: training samples per second of one worker, compared with plain decoding of the same PNG files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.report import Bar, Report
from benchmarks.scenes import FULL_SIZE
from benchmarks.timing import alternate
from efficientps.data.cache import SampleCache
from efficientps.data.dataset import PanopticDataset
from efficientps.data.loading.samplers import SampleIndex
from efficientps.data.sources.cityscapes import CityscapesDataModule
from efficientps.synthetic.streets import write_synthetic_cityscapes

SHARE_OF_DECODE_RATE = 0.85
CACHE_SPEEDUP = 4.0
_SCENES = 6


def run(*, size: tuple[int, int] = FULL_SIZE, rounds: int = 24, root: str | None = None) -> Report:
    """Time samples in one process with one thread, for crops of half the size and of the full size of the files.

    Args:
        size: (height, width) of the synthetic scenes, multiples of 64.
        rounds: number of timed samples of each side.
        root: a prepared Cityscapes tree that is read instead of synthetic scenes.
    """
    report = Report(
        "data", {"size": list(size), "rounds": rounds, "root": "synthetic scenes" if root is None else root}
    )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tree = root
        if tree is None:
            tree = str(Path(folder, "tree"))
            write_synthetic_cityscapes(Path(tree), num_train=_SCENES, num_val=0, size=size, num_workers=1)
        cache = Path(folder, "cache")
        for crop in ((size[0] // 2, size[1] // 2), size):
            plain, cached = _datasets(tree, crop, cache, rounds)
            _measure(report, f"crops of {crop[0]}x{crop[1]}", plain, cached, rounds)
        _add_disk_cost(report, plain, cache / "train")
    return report


def _datasets(root: str, crop: tuple[int, int], cache: Path, samples: int) -> tuple[PanopticDataset, PanopticDataset]:
    """Return the training set on PNG files and on a cache with the first ``samples`` samples."""
    module = CityscapesDataModule(root=root, image_size=crop, num_workers=0)
    plain = module.dataset("train", module.options("train"))
    filled = SampleCache(root=cache / "train")
    for index in range(min(samples, len(plain))):
        plain.write_cache(index, filled)
    module.cache = str(cache)
    return plain, module.dataset("train", module.options("train"))


def _measure(report: Report, case: str, plain: PanopticDataset, cached: PanopticDataset, rounds: int) -> None:
    number = min(rounds, len(plain))
    files = [plain.entries[index].files for index in range(number)]

    def decode(index: int) -> None:
        for path in files[index]:
            np.array(Image.open(path))

    def side(read: Callable[[int], object]) -> Callable[[], object]:
        turns = count()
        return lambda: read(next(turns) % number)

    timings = alternate(
        {
            "bare PNG decoding": side(decode),
            "EfficientPS, PNG": side(lambda index: plain[SampleIndex(index, index)]),
            "EfficientPS, cache": side(lambda index: cached[SampleIndex(index, index)]),
        },
        rounds=rounds,
    )
    rates = {name: {"samples_per_second": 1 / timing.seconds} for name, timing in timings.items()}
    report.add(case, timings, rates)
    bare, png, cache = (timing.seconds for timing in timings.values())
    report.bars += [
        Bar(f"share of the decode rate, {case}", bare / png, ">=", SHARE_OF_DECODE_RATE),
        Bar(f"times faster than PNG decoding with the cache, {case}", bare / cache, ">=", CACHE_SPEEDUP),
    ]


def _add_disk_cost(report: Report, plain: PanopticDataset, cache: Path) -> None:
    """Add the size of a sample on disk, as PNG files and in the cache."""
    sizes = [file.stat().st_size for file in cache.iterdir()]
    png = [sum(Path(path).stat().st_size for path in plain.entries[index].files) for index in range(len(sizes))]
    for side, bytes_ in (("PNG", png), ("cache", sizes)):
        report.add_figures("disk", side, {"mb_per_sample": sum(bytes_) / len(bytes_) / 1e6})
