"""Make panoptic annotations from COCO instance annotations, with semantic maps or one class as the background.

    efficientps convert instances instances.json --output datasets/site --background ground
    efficientps convert instances instances.json --output datasets/site \
        --semantic path/to/maps --stuff stuff_categories.json

Where instances overlap, the smaller one is visible (with --overlap later, the one later in the file). Instances cover
the background.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.data.shown_progress import followed
from efficientps.cli.input_errors import explain_input

if TYPE_CHECKING:  # PyTorch is imported after the options are read, so that the help appears at once
    from efficientps.data.formats.coco_instances import InstanceFile
    from efficientps.data.tools.from_instances import Conversion


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Convert the annotations; return 0, or 1 after a sentence that says what is wrong."""
    options = _parser(prog).parse_args(arguments)
    from efficientps.data.formats.coco_instances import read_instances
    from efficientps.data.problems import ProblemsError
    from efficientps.data.tools.from_instances import convert_instances

    folder = Path(options.instances).parent
    roots = (folder, folder / "images", options.output, options.output / "images")
    done: list[Conversion] = []
    try:
        instances = read_instances(
            options.instances,
            image_roots=roots if options.images is None else (options.images,),
            must_exist=options.images is not None,
        )
        converting = convert_instances(
            instances,
            options.output,
            semantic_root=options.semantic,
            stuff_file=options.stuff,
            void=options.void,
            background=options.background,
            overlap=options.overlap,
            skip_invalid=options.skip_invalid,
            crowds_as_instances=options.crowd_as_instances,
        )
        done.extend(followed(converting, "instances", total=len(instances.images)))
    except ProblemsError as error:
        for line in error.problems.lines("error: "):
            print(line, file=sys.stderr)
        print(
            f"Nothing was written: {len(error.problems)} annotations cannot be used. Correct them, or leave them out "
            "with --skip-invalid.",
            file=sys.stderr,
        )
        return 1
    except (ValueError, OSError) as error:
        sentence = explain_input(error, {"--output": options.output})
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    _summarize(instances, done, options)
    return 0


def _parser(prog: str | None) -> CommandParser:
    parser = CommandParser(prog, __doc__.strip().split("\n")[0])
    parser.add_argument("instances", help="COCO instance JSON: polygons or run lengths")
    parser.add_argument("--output", type=Path, required=True, help="folder for panoptic.json and panoptic/")
    parser.add_argument(
        "--images",
        help="folder of the images; each must be there. Without it, names with backslashes are looked for beside the "
        "JSON, in the output folder, and in the folder 'images' of each",
    )
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
    parser.add_argument(
        "--skip-invalid", action="store_true", help="leave out annotations that cannot be used, and count them by kind"
    )
    parser.add_argument(
        "--crowd-as-instances",
        action="store_true",
        help="take each annotation with iscrowd 1 as one instance, as masks exported from CVAT are",
    )
    return parser


def _summarize(instances: InstanceFile, done: Sequence[Conversion], options: argparse.Namespace) -> None:
    """Print what was written, and all that was left out or is probably a mistake, with counts."""
    from efficientps.data.problems import Problem, Problems

    things = {category.label_id for category in instances.categories if category.is_thing}
    segments = [segment for conversion in done for segment in conversion.entry.segments]
    shown = sum(segment.category_id in things and not segment.is_crowd for segment in segments)
    hidden, empty, crowds = (
        sum(counts) for counts in zip(*((item.hidden, item.empty, item.crowds) for item in done), strict=True)
    )
    print(
        f"{len(done)} images with {shown} instances written to {options.output}; {crowds} annotations are crowd "
        f"regions, {hidden} instances have no visible pixel and were left out, as were {empty} that cover no pixel of "
        "their image."
    )
    if instances.problems:
        print(f"{len(instances.problems)} of {instances.total} annotations have a fault; what is faulty was left out:")
        print("\n".join(f"  {line}" for line in instances.problems.table()))
    remarks = Problems(
        f"Class '{name}' was left out: it is the parent of other classes, and no annotation is of it."
        for name in instances.headings
    )
    if not options.crowd_as_instances:
        for name, count in instances.classes_of_crowds().items():
            remarks.add(
                Problem(
                    "class of crowds",
                    name,
                    "if each of them is one object, as in masks exported from CVAT, give --crowd-as-instances",
                    f"Class '{name}' has no instance: each of its {count} annotations says iscrowd 1.",
                )
            )
    for line in remarks.lines("remark: "):
        print(line, file=sys.stderr)
