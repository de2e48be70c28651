"""Write procedural construction yards as a COCO panoptic data set with 16 classes and images of many sizes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.data.shown_progress import followed
from efficientps.cli.input_errors import explain_input


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Write the yards; return 0, or 1 after a sentence that says what is wrong."""
    parser = CommandParser(prog, __doc__)
    parser.add_argument("--root", type=Path, default=Path("datasets/yard"), help="folder of the data set")
    parser.add_argument("--num-images", type=int, default=120, help="number of images")
    parser.add_argument("--size", type=int, default=320, help="longest side of the largest images, pixels")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices")
    options = parser.parse_args(arguments)
    # PyTorch is imported after the options are read, so that the help appears at once.
    from efficientps.synthetic.yards import write_synthetic_yard

    writing = write_synthetic_yard(options.root, num_images=options.num_images, size=options.size, seed=options.seed)
    try:
        for _ in followed(writing, "synthetic yards", total=options.num_images):
            pass
    except (OSError, ValueError) as error:
        sentence = explain_input(error, {"--root": options.root})
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    print(f"{options.num_images} yards (seed {options.seed}) in {options.root}")
    return 0
