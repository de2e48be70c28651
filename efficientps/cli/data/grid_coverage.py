"""Share of the objects of a data set to which SOLOv2 assigns no cell, for several choices of its grids.

    python scripts/grid_coverage.py configs/demo_solov2.yaml --root datasets/synthetic
    python scripts/grid_coverage.py configs/coco_panoptic.yaml --scale 0.5 --grids 40x80,20x40,12x24,8x16,6x12

reads the training images of a configuration without augmentation, at the training size times ``--scale`` (scale jitter
makes objects smaller). An object has no cell where other objects win all cells in its centre region; the argument
``conflict`` of the head decides which object wins a cell. The output is a Markdown table with the best grids last.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from efficientps.cli.data.data_section import configured_data
from efficientps.cli.errors import explain
from efficientps.data.loading.targets import training_batch
from efficientps.networks.efficientps.solov2.head import SOLOv2Head
from efficientps.networks.efficientps.solov2.targets import assign_cells, default_scale_ranges
from efficientps.structures import InstanceTargets

Grids = tuple[tuple[int, int], ...]

PUBLISHED: Grids = tuple((cells, cells) for cells in (40, 36, 24, 16, 12))
"""The grids of the authors (WXinlong/SOLO: configs/solov2)."""

DEFAULT: Grids = inspect.signature(SOLOv2Head).parameters["num_grids"].default

CONFLICTS: tuple[Literal["smaller", "last"], ...] = ("smaller", "last")


def training_targets(config: Path, *, root: str | None, scale: float) -> Iterable[InstanceTargets]:
    """Yield the instances of each training image, as a network is trained with them.

    Args:
        config: a YAML file with a section ``data``.
        root: folder of the data, instead of the one in the configuration.
        scale: factor of the training size of the images.

    Raises:
        ValueError: if the file cannot be read, has no section ``data``, or describes no data module.
        OSError: if the data cannot be read.
    """
    plain: dict[str, Any] = {"scale_range": [scale, scale], "flip_prob": 0.0, "photometric": False}
    plain |= {"batch_size": 1, "num_workers": 0, "albumentations": None} | ({} if root is None else {"root": root})
    data = configured_data(config, plain)
    data.setup("fit")
    for batch in data.train_dataloader():
        yield from training_batch(batch, data.categories.num_stuff)["instances"]


def left_out(
    targets: InstanceTargets, grids: Grids, *, sigma: float, conflict: Literal["smaller", "last"], short_side: int
) -> int:
    """Return how many objects of an image have no cell."""
    number = len(targets["labels"])
    if number == 0:
        return 0
    assigned = assign_cells(
        targets,
        num_things=int(targets["labels"].max()) + 1,
        grids=grids,
        scale_ranges=default_scale_ranges(short_side),
        sigma=sigma,
        conflict=conflict,
    )
    return number - len(torch.unique(assigned.objects))


def table(targets: Iterable[InstanceTargets], choices: Sequence[Grids], *, sigma: float) -> str:
    """Return a table of shares in percent, a line for each choice of grids; scale ranges are the head's defaults."""
    objects, images = 0, 0
    lost = {grids: dict.fromkeys(CONFLICTS, 0) for grids in choices}
    for of_image in targets:
        objects, images = objects + len(of_image["labels"]), images + 1
        short_side = min(of_image["masks"].shape[-2:])
        for grids, counts in lost.items():
            for conflict in CONFLICTS:
                counts[conflict] += left_out(of_image, grids, sigma=sigma, conflict=conflict, short_side=short_side)
    lines = [
        f"{objects} objects in {images} images",
        "",
        "| grids | cells | smaller wins | last wins |",
        "|---|---|---|---|",
    ]
    for grids, counts in sorted(lost.items(), key=lambda item: -item[1]["smaller"]):
        cells = sum(rows * columns for rows, columns in grids)
        shares = " | ".join(f"{100 * counts[conflict] / max(objects, 1):.2f} %" for conflict in CONFLICTS)
        lines.append(f"| {', '.join(f'{rows}x{columns}' for rows, columns in grids)} | {cells} | {shares} |")
    return "\n".join(lines)


def parse_grids(text: str) -> Grids:
    """Read five grids, rows and columns of each, finest first.

    >>> parse_grids("40x80,20x40,12x24,8x16,6")[-2:]
    ((8, 16), (6, 6))
    """
    grids = tuple(tuple(int(side) for side in grid.split("x")) for grid in text.split(","))
    if len(grids) != len(DEFAULT) or any(len(grid) > 2 or min(grid) < 1 for grid in grids):
        raise argparse.ArgumentTypeError(f"'{text}' is not {len(DEFAULT)} grids like 40x80,36x72,24x48,16x32,12x24")
    return tuple((grid[0], grid[-1]) for grid in grids)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0, or 1 after a sentence that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration of a training; only its section 'data' is read")
    parser.add_argument("--root", help="folder of the data, instead of the one in the configuration")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the image size (1)")
    parser.add_argument("--sigma", type=float, default=0.2, help="size of the centre regions (0.2)")
    parser.add_argument(
        "--grids",
        type=parse_grids,
        nargs="+",
        default=[PUBLISHED, DEFAULT],
        help="(the published ones and the default)",
    )
    options = parser.parse_args(arguments)
    try:
        targets = training_targets(options.config, root=options.root, scale=options.scale)
        print(table(targets, options.grids, sigma=options.sigma))
    except Exception as error:
        if (sentence := explain(error)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    return 0
