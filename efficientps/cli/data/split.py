"""Split a COCO panoptic JSON file into train.json and val.json, by image and with every class in proportion.

    efficientps split datasets/yard/panoptic.json

writes both files beside it. Images and maps stay where they are, no image is in both files, and the same seed gives the
same files again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.input_errors import explain_input

if TYPE_CHECKING:
    from efficientps.data.tools.split import ClassShare


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Split the file; return 0, or 1 after a sentence that says what is wrong."""
    parser = CommandParser(prog, __doc__.strip().split("\n")[0])
    parser.add_argument("annotations", type=Path, help="COCO panoptic JSON")
    parser.add_argument("--train", type=Path, help="file for the larger part; train.json beside it if not given")
    parser.add_argument("--val", type=Path, help="file for the smaller part; val.json beside it if not given")
    parser.add_argument("--val-fraction", type=float, default=0.2, help="share of the images that validate")
    parser.add_argument("--seed", type=int, default=0, help="of the choice between images that fit equally well")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    # PyTorch is imported after the options are read, so that the help appears at once.
    from efficientps.data.tools.split import split_annotations

    source = options.annotations
    train, val = options.train or source.with_name("train.json"), options.val or source.with_name("val.json")
    try:
        shares = split_annotations(
            source,
            train,
            val,
            val_fraction=options.val_fraction,
            seed=options.seed,
            overwrite=options.overwrite,
        )
    except (ValueError, OSError) as error:
        option = " The option is --overwrite." if isinstance(error, FileExistsError) else ""
        sentence = explain_input(error, {"--train": train, "--val": val})
        print(f"error: {sentence}{option}", file=sys.stderr)
        return 1
    print(_table(shares))
    print(f"Written: {train} and {val}")
    return 0


def _table(shares: Sequence[ClassShare]) -> str:
    """Return a table with the number of images of each class in both parts."""
    width = max(len("Class"), *(len(share.name) for share in shares))
    lines = [
        f"{'Class':{width}}  train    val",
        *(f"{name:{width}} {train:6d} {val:6d}" for name, train, val in shares),
    ]
    if missing := [share.name for share in shares if share.train and not share.val]:
        lines.append(f"In no image of val: {', '.join(missing)}.")
    return "\n".join(lines)
