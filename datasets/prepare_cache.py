"""Decode a Cityscapes tree once, into a lossless cache that training reads several times faster than PNG files.

    python datasets/prepare_cache.py datasets/cityscapes --cache datasets/cityscapes_cache
    python train_net.py fit --data.root datasets/cityscapes --data.cache datasets/cityscapes_cache

Samples that are in the cache already, and still fit their files, are left as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from efficientps.data.cityscapes import CityscapesPanoptic
from efficientps.data.sample_cache import SampleCache


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the cache; return 0, or 1 after a sentence that says what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__.strip().split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("root", help="folder with leftImg8bit and gtFine, prepared by prepare_cityscapes.py")
    parser.add_argument("--cache", required=True, help="folder of the cache, one folder for each split")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], choices=["train", "val"])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    options = parser.parse_args(arguments)
    try:
        datasets = {split: CityscapesPanoptic(root=options.root, split=split) for split in options.splits}
        for split, dataset in datasets.items():
            _fill(dataset, Path(options.cache, split), options.workers)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _fill(dataset: CityscapesPanoptic, folder: Path, workers: int) -> None:
    """Write the samples of a split, in several processes, under a progress bar."""
    write = partial(dataset.write_cache, cache=SampleCache(root=folder))
    bar = partial(tqdm, desc=folder.name, total=len(dataset), unit=" samples")
    if workers <= 1:
        written = [write(index) for index in bar(range(len(dataset)))]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            written = list(bar(pool.map(write, range(len(dataset)), chunksize=4)))
    new = [size for size in written if size]
    print(f"{folder}: {len(new)} of {len(dataset)} samples written, {sum(new) / 1e9:.2f} GB")


if __name__ == "__main__":
    sys.exit(main())
