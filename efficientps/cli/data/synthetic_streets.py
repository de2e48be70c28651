"""Write procedural street scenes as a Cityscapes tree, ready for training: the data set that needs no download."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.input_errors import explain_input


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Write the scenes; return 0, or 1 after a sentence that says what is wrong."""
    parser = CommandParser(prog, __doc__)
    parser.add_argument("--root", type=Path, default=Path("datasets/synthetic"), help="directory of the tree")
    parser.add_argument("--num-train", type=int, default=240, help="scenes in the split train")
    parser.add_argument("--num-val", type=int, default=60, help="scenes in the split val")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"), help="of the images, pixels"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all random choices")
    parser.add_argument("--workers", type=int, default=None, help="number of processes; one for each core if not given")
    options = parser.parse_args(arguments)
    # NumPy and OpenCV are imported after the options are read, so that the help appears at once.
    from efficientps.cli.data.shown_progress import shown_progress
    from efficientps.synthetic.streets import write_synthetic_cityscapes

    size = (options.size[0], options.size[1])
    try:
        with shown_progress("synthetic scenes", unit="scenes") as show:
            write_synthetic_cityscapes(
                options.root,
                num_train=options.num_train,
                num_val=options.num_val,
                size=size,
                seed=options.seed,
                num_workers=options.workers,
                progress=show,
            )
    except (OSError, ValueError, BrokenExecutor) as error:
        sentence = explain_input(error, {"--root": options.root})
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    print(
        f"{options.num_train} train and {options.num_val} val scenes of {size[0]} × {size[1]} pixels "
        f"(seed {options.seed}) in {options.root}"
    )
    return 0
