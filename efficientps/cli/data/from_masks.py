"""Make panoptic annotations from masks: PNGs of classes and of instance numbers.

    efficientps convert masks --images images --classes classes.csv --output datasets/site \
        --semantic semantic --instances instances      a map of classes, and one of instance numbers
        --channels masks                               one PNG: the class in red, the instance number in green
        --instance-ids masks                           one PNG: class x 1000 + number, as Cityscapes has it
        --components semantic                          a map of classes; connected parts of things are instances

The masks of images/sub/a.jpg are sub/a.png in their folders, or what the options for suffixes say. --things and --stuff
name the classes where there is no file of them: --things 26=car 24=person --stuff 7=road.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from efficientps.cli.command_parser import CommandParser
from efficientps.cli.data.shown_progress import followed
from efficientps.cli.input_errors import explain_input

if TYPE_CHECKING:  # PyTorch is imported after the options are read, so that the help appears at once
    from efficientps.data.problems import Problems
    from efficientps.data.tools.from_masks import MaskConversion
    from efficientps.data.tools.masks import MaskFiles, MaskKind
    from efficientps.structures.categories import Categories


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Convert the masks; return 0, or 1 after the problems or a sentence that says what is wrong."""
    parser = _parser(prog)
    options = parser.parse_args(arguments)
    if (options.semantic is None) != (options.instances is None):
        parser.error("--semantic and --instances belong together; for a map of classes alone give --components")
    if (options.classes is None) == (not options.things and not options.stuff):
        parser.error("give either --classes, or --things and --stuff")
    from efficientps.data.problems import Problems, ProblemsError
    from efficientps.data.tools.from_masks import convert_masks
    from efficientps.data.tools.masks import MaskRules

    rules = MaskRules(
        void=None if options.void is None else tuple(options.void),
        unlisted_is_void=options.unlisted == "void",
        uncounted=options.uncounted,
        min_area=options.min_area,
        upright=options.upright,
    )
    done: list[MaskConversion] = []
    try:
        categories = _categories(options)
        converting = convert_masks(
            _files(options),
            categories,
            options.output,
            rules=rules,
            skip_invalid=options.skip_invalid,
            workers=options.workers,
        )
        done.extend(followed(converting, "masks"))
    except ProblemsError as error:
        for line in error.problems.lines("error: "):
            print(line, file=sys.stderr)
        print(
            f"No panoptic.json was written: {len(error.problems)} problems. Correct them, or leave their images out "
            "with --skip-invalid; with --unlisted void, classes that the table lacks are void.",
            file=sys.stderr,
        )
        return 1
    except (ValueError, OSError, BrokenExecutor) as error:
        sentence = explain_input(error, {"--output": options.output})
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    problems = Problems(problem for conversion in done for problem in conversion.problems)
    _summarize(done, categories, problems, options.output)
    return 0


def _parser(prog: str | None) -> CommandParser:
    parser = CommandParser(prog, __doc__.strip().split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for panoptic.json and panoptic/")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images, with its subfolders")
    masks = parser.add_mutually_exclusive_group(required=True)
    masks.add_argument("--semantic", type=Path, help="folder of grey PNGs of classes; needs --instances")
    masks.add_argument("--channels", type=Path, help="folder of PNGs with the class in red, the instance in green")
    masks.add_argument("--instance-ids", type=Path, help="folder of grey PNGs of class x 1000 + instance number")
    masks.add_argument("--components", type=Path, help="folder of grey PNGs of classes; connected parts are instances")
    parser.add_argument("--instances", type=Path, help="folder of grey PNGs of instance numbers, where 0 is none")
    parser.add_argument("--classes", type=Path, help="JSON, YAML or CSV of the classes: id, name, isthing")
    parser.add_argument("--things", nargs="+", default=[], metavar="ID=NAME", help="classes with instances")
    parser.add_argument("--stuff", nargs="+", default=[], metavar="ID=NAME", help="classes without instances")
    parser.add_argument("--image-suffix", default="", help="ending of the images' names before the extension")
    parser.add_argument("--mask-suffix", default="", help="what the names of the masks have in its place")
    parser.add_argument("--instance-suffix", default="", help="the same for the PNGs of --instances")
    parser.add_argument(
        "--void",
        type=int,
        nargs="+",
        help="values that mean void, in addition to 0 where no class has this id; 255 if not given",
    )
    parser.add_argument(
        "--unlisted", choices=["error", "void"], default="error", help="what classes are that the table lacks"
    )
    parser.add_argument(
        "--uncounted",
        choices=["crowd", "void"],
        default="crowd",
        help="what pixels of a thing class without an instance become: one crowd region of the class, or void",
    )
    parser.add_argument(
        "--min-area", type=int, default=0, help="smaller parts of --components are no instances, in pixels"
    )
    parser.add_argument(
        "--upright", action="store_true", help="the masks belong to images turned by their EXIF orientation"
    )
    parser.add_argument("--skip-invalid", action="store_true", help="leave out images that cannot be converted")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    return parser


def _files(options: argparse.Namespace) -> MaskFiles:
    from efficientps.data.tools.masks import MaskFiles

    kind: MaskKind
    if options.semantic is not None:
        kind, masks = "pair", options.semantic
    elif options.channels is not None:
        kind, masks = "channels", options.channels
    elif options.instance_ids is not None:
        kind, masks = "ids", options.instance_ids
    else:
        kind, masks = "components", options.components
    return MaskFiles(
        images=options.images,
        kind=kind,
        masks=masks,
        instances=options.instances,
        image_suffix=options.image_suffix,
        mask_suffix=options.mask_suffix,
        instance_suffix=options.instance_suffix,
    )


def _categories(options: argparse.Namespace) -> Categories:
    from efficientps.data.formats.class_table import class_table, read_class_table

    if options.classes is not None:
        return read_class_table(options.classes)
    return class_table(_named(options.things), _named(options.stuff))


def _named(words: Sequence[str]) -> list[tuple[int, str]]:
    """Return ids and names of words such as ``26=car``."""
    pairs = [word.partition("=") for word in words]
    for number, _, name in pairs:
        if not number.isascii() or not number.isdecimal() or not name:
            raise ValueError(f"A class is given as ID=NAME, 26=car for instance; '{number}' is none.")
    return [(int(number), name) for number, _, name in pairs]


def _summarize(done: Sequence[MaskConversion], categories: Categories, problems: Problems, output: Path) -> None:
    """Print what was written, and all that was left out or is probably a mistake, with counts."""
    from efficientps.data.problems import Problem, Problems

    things = {category.label_id: category.name for category in categories if category.is_thing}
    entries = [conversion.entry for conversion in done if conversion.entry is not None]
    flags = Counter(
        (segment.category_id, segment.is_crowd)
        for entry in entries
        for segment in entry.segments
        if segment.category_id in things
    )
    instances = sum(count for (_, is_crowd), count in flags.items() if not is_crowd)
    crowds = sum(flags.values()) - instances
    print(f"{len(entries)} images with {instances} instances and {crowds} crowd regions written to {output}.")
    if problems:
        print(f"{len(done) - len(entries)} images cannot be converted, and were left out:")
        print("\n".join(f"  {line}" for line in problems.table()))
    remarks = Problems(
        Problem(
            "class without an instance",
            name,
            "check that the masks number the instances, from 1",
            f"Class '{name}' has no instance: its pixels have no instance number, and are crowd regions in "
            f"{flags[label_id, True]} images.",
        )
        for label_id, name in things.items()
        if flags[label_id, True] and not flags[label_id, False]
    )
    for line in remarks.lines("remark: "):
        print(line, file=sys.stderr)
