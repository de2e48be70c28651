"""Decode a data set once, into a lossless cache that training reads several times faster than PNG files.

Cityscapes, or another data set in its tree, both splits at once:

    efficientps cache datasets/cityscapes --cache datasets/cityscapes_cache
    efficientps fit --data.root datasets/cityscapes --data.cache datasets/cityscapes_cache

Any other data set in the COCO panoptic format, one split at a time, into the folders "train" and "val" of the folder
for ``data.cache``:

    efficientps cache --images datasets/yard/images --annotations datasets/yard/train.json \
        --maps datasets/yard/panoptic --cache datasets/yard_cache/train

A data set of any format, both splits at once, by the configuration of a training:

    efficientps cache --config demo_yard --cache datasets/yard_cache

Samples that are in the cache already, and whose files have not changed since, are kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.data.shown_progress import shown_progress
from efficientps.cli.input_errors import explain_input

if TYPE_CHECKING:  # PyTorch and Lightning are imported after the options are read, so that the help appears at once
    from efficientps.data.dataset import PanopticDataset

SPLITS = ("train", "val")


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Fill the cache; return 0, or 1 after a sentence that says what is wrong."""
    parser = CommandParser(prog, __doc__.strip().split("\n")[0])
    parser.add_argument("root", nargs="?", help="Cityscapes, with the maps of 'efficientps convert cityscapes'")
    parser.add_argument(
        "--splits", nargs="+", default=list(SPLITS), choices=SPLITS, help="splits of the root or of --config"
    )
    parser.add_argument("--annotations", type=Path, help="COCO panoptic JSON, instead of a root")
    parser.add_argument("--images", help="folder that the names of its images are relative to")
    parser.add_argument(
        "--maps", help="folder of the panoptic maps; the path of the JSON file without its ending if not given"
    )
    parser.add_argument(
        "--upright",
        action="store_true",
        help="the annotations belong to images turned upright as their EXIF orientation says, as in data.upright",
    )
    parser.add_argument("--config", type=Path, help="configuration of a training, instead of a root or --annotations")
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder of the cache; a root and --config get a folder for each split in it; by default data.cache of "
        "--config",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    options = parser.parse_args(arguments)
    if [options.root, options.annotations, options.config].count(None) != 2:
        parser.error("give either the root of a Cityscapes tree, or --annotations and --images, or --config")
    if (options.annotations is None) != (options.images is None):
        parser.error("--annotations and --images belong together")
    if options.annotations is None and (options.maps or options.upright):
        parser.error("--maps and --upright belong to --annotations; a Cityscapes tree and --config need neither")
    if options.cache is None and options.config is None:
        parser.error("give the folder of the cache as --cache")
    try:
        for folder, dataset in _datasets(options).items():
            _fill(dataset, folder, options.workers)
    except (ValueError, OSError, BrokenExecutor) as error:
        sentence = explain_input(error, {"--cache": options.cache})
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    return 0


def _datasets(options: argparse.Namespace) -> dict[Path, PanopticDataset]:
    """Open the data sets that the options name; return each by the folder of its cache."""
    from efficientps.cli.data.data_section import configured_data
    from efficientps.data.dataset import DatasetOptions
    from efficientps.data.formats.annotation_file import read_annotation_file
    from efficientps.data.formats.coco_categories import categories_of
    from efficientps.data.sources.cityscapes import CityscapesPanoptic
    from efficientps.data.sources.coco_panoptic import CocoPanoptic

    if options.root is not None:
        return {options.cache / split: CityscapesPanoptic(root=options.root, split=split) for split in options.splits}
    if options.config is not None:
        data = configured_data(options.config)
        folder = options.cache or data.cache
        if folder is None:
            raise ValueError(f"'{options.config}' has no data.cache; give the folder of the cache as --cache.")
        return {
            Path(folder, split): data.dataset(split, DatasetOptions(grey_range=data.grey_range))
            for split in options.splits
        }
    file = read_annotation_file(options.annotations)
    dataset = CocoPanoptic(
        annotation_file=file,
        map_root=options.maps or options.annotations.with_suffix(""),
        image_root=options.images,
        categories=categories_of(file.head, options.annotations),
        upright=options.upright,
    )
    return {options.cache: dataset}


def _fill(dataset: PanopticDataset, folder: Path, workers: int) -> None:
    """Write the samples of a split in several processes, and show the progress."""
    from efficientps.data.cache import SampleCache
    from efficientps.data.tools.in_order import in_order

    write = partial(dataset.write_cache, cache=SampleCache(root=folder))
    written = []
    sizes = in_order(write, range(len(dataset)), workers=workers, writes=True)
    with shown_progress(folder.name, unit="samples") as show, closing(sizes):
        for size in sizes:
            written.append(size)
            show(len(written), len(dataset))
    new = [size for size in written if size]
    print(f"{folder}: {len(new)} of {len(dataset)} samples written, {sum(new) / 1e9:.2f} GB")
