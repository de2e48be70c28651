"""Make the panoptic annotations of Cityscapes from its official packages.

    efficientps convert cityscapes datasets/cityscapes

checks that every image in leftImg8bit has its annotation in gtFine and the reverse, and runs the official converter of
cityscapesscripts. Splits that are complete already are left alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.data.shown_progress import shown_progress
from efficientps.cli.input_errors import explain_input
from efficientps.data.tools.cityscapes_conversion import check_tree, prepare_split


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Prepare the splits; return 0, or 1 after a sentence that says what is wrong."""
    parser = CommandParser(prog, __doc__.strip().split("\n")[0])
    parser.add_argument("root", help="folder with leftImg8bit and gtFine")
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], choices=["train", "val"], help="splits to prepare"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    options = parser.parse_args(arguments)
    try:
        for split in options.splits:
            check_tree(options.root, split)
        for split in options.splits:
            _prepare(options.root, split, options.workers)
    except (ValueError, OSError, BrokenExecutor) as error:
        print(f"error: {explain_input(error)}", file=sys.stderr)
        return 1
    return 0


def _prepare(root: str, split: str, workers: int) -> None:
    """Prepare one split, and show the progress."""
    with shown_progress(split) as show:
        made = prepare_split(root, split, workers=workers, progress=show)
    target = os.path.join(root, "gtFine", f"cityscapes_panoptic_{split}.json")
    print(f"{target}: {'written' if made else 'complete already, nothing to do'}")
