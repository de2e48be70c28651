"""Panoptic quality of predictions: ``python -m efficientps.cli.evaluate GT_JSON GT_DIR PRED_JSON PRED_DIR``.

Ground truth and predictions are in the COCO panoptic format; the classes are those in the file of the ground truth. The
results equal those of cityscapesscripts and panopticapi.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from efficientps.atomic_file import write_text
from efficientps.cli.command_parser import CommandParser
from efficientps.cli.input_errors import explain_input

_DESCRIPTION = "Panoptic quality of predictions in the COCO panoptic format, as panopticapi counts it."


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Evaluate what the command line names, print the table, and return the exit code: 0, or 2 after bad input."""
    parser = CommandParser(prog or "python -m efficientps.cli.evaluate", _DESCRIPTION)
    parser.add_argument("gt_json", metavar="GT_JSON", help="annotations of the ground truth")
    parser.add_argument("gt_dir", metavar="GT_DIR", help="folder of its PNG files")
    parser.add_argument("pred_json", metavar="PRED_JSON", help="annotations of the predictions")
    parser.add_argument("pred_dir", metavar="PRED_DIR", help="folder of their PNG files")
    parser.add_argument("--json", metavar="OUT", help="write all figures to this file as well")
    parser.add_argument("--per-class", action="store_true", help="show every class")
    parser.add_argument("--report", metavar="DIR", type=Path, help="write report.html and its pictures to this folder")
    parser.add_argument("--images", metavar="DIR", help="folder of the image files, for the pictures of the report")
    parser.add_argument(
        "--upright",
        action="store_true",
        help="the annotations belong to images turned upright as their EXIF orientation says (data.upright: true)",
    )
    parser.add_argument("--log", metavar="CSV", help="metrics.csv of the training run, for the curves of the report")
    parser.add_argument("--worst", metavar="N", type=int, default=8, help="images that the report shows")
    options = parser.parse_args(arguments)
    # PyTorch is imported after the options are read, so that the help appears at once.
    from efficientps.cli.evaluation import evaluate
    from efficientps.data.formats.image_file import TurnedImageError
    from efficientps.reporting.curves import read_curves
    from efficientps.reporting.html import write_report
    from efficientps.reporting.worst_images import WorstImages

    try:
        worst = WorstImages(options.worst) if options.report is not None else None
        result, categories = evaluate(
            options.gt_json,
            options.gt_dir,
            options.pred_json,
            options.pred_dir,
            worst=worst,
            image_dir=options.images,
            upright=options.upright,
        )
        names = [category.name for category in categories]
        if worst is not None:
            write_report(
                options.report,
                title=f"Evaluation of {options.pred_json}",
                result=result,
                names=names,
                colors=[category.color for category in categories],
                curves=read_curves(options.log) if options.log is not None else None,
                worst=worst.images,
            )
        if options.json is not None:
            _write_whole(Path(options.json), json.dumps(result.as_dict(names), indent=2) + "\n")
    except TurnedImageError as error:
        way = "leave --upright out" if options.upright else "give --upright"
        print(f"error: {explain_input(error)} To take it so, {way}.", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        sentence = explain_input(error, {"--report": options.report})
        print(f"error: {sentence}", file=sys.stderr)
        return 2
    print(result.table(names if options.per_class else None))
    return 0


def _write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    try:
        write_text(path, text, concurrent=True)
    except OSError as error:
        raise ValueError(f"Cannot write '{path}' ({error.strerror}); choose another file for --json.") from None


if __name__ == "__main__":
    sys.exit(main())
