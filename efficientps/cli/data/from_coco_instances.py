"""Make panoptic annotations from COCO instance annotations, with semantic maps or one class as the background.

    efficientps convert instances instances.json --output datasets/site --background ground
    efficientps convert instances instances.json --output datasets/site \
        --semantic path/to/maps --stuff stuff_categories.json

Where instances overlap, the smaller one is visible (with --overlap later, the one later in the file). Instances cover
the background.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.input_errors import explain_input


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Convert the annotations; return 0, or 1 after a sentence that says what is wrong."""
    parser = CommandParser(prog, __doc__.strip().split("\n")[0])
    parser.add_argument("instances", help="COCO instance JSON: polygons or run lengths")
    parser.add_argument("--output", type=Path, required=True, help="folder for panoptic.json and panoptic/")
    parser.add_argument("--semantic", help="folder of grey PNGs named as the images, whose values are category ids")
    parser.add_argument("--stuff", help="JSON whose 'categories' are the further classes of the semantic maps")
    parser.add_argument(
        "--void", type=int, default=255, help="value of the semantic maps that means void, in addition to 0"
    )
    parser.add_argument("--background", help="name of a class for all pixels without another class")
    parser.add_argument(
        "--overlap",
        choices=["smaller", "later"],
        default="smaller",
        help="which of two overlapping instances is visible",
    )
    options = parser.parse_args(arguments)
    # PyTorch is imported after the options are read, so that the help appears at once.
    from efficientps.data.tools.from_instances import convert_instances

    converting = convert_instances(
        options.instances,
        options.output,
        semantic_root=options.semantic,
        stuff_file=options.stuff,
        void=options.void,
        background=options.background,
        overlap=options.overlap,
    )
    images = hidden = 0
    try:
        for conversion in tqdm(converting, unit=" images", disable=None):
            images += 1
            hidden += conversion.hidden
    except (ValueError, OSError) as error:
        print(f"error: {explain_input(error)}", file=sys.stderr)
        return 1
    print(f"{images} images written to {options.output}; {hidden} instances have no visible pixel and were left out.")
    return 0
