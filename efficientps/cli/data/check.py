"""Check a data set: every reference, every file, and the number of objects of each class.

The options name one split in the COCO panoptic format:

    efficientps check --images datasets/yard/images --annotations datasets/yard/train.json \
        --maps datasets/yard/panoptic

The configuration of a training names a data set of any format, whose training and validation images are checked, and
whose network must be able to train on them:

    efficientps check --config demo_yard

The exit code is 0 if training can read all of it. It is 1 if something is wrong; each kind of problem is printed once,
with its count and the first examples.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from efficientps.atomic_file import write_text
from efficientps.cli.command_parser import CommandParser
from efficientps.cli.input_errors import explain_input

if TYPE_CHECKING:  # PyTorch is imported after the options are read, so that the help appears at once
    from efficientps.data.formats.annotation_file import AnnotationFile
    from efficientps.data.loading.datamodule import PanopticDataModule
    from efficientps.data.tools.report import DatasetReport


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Check the data set; return 0 if nothing is wrong, otherwise 1."""
    parser = CommandParser(prog, __doc__.strip().split("\n")[0])
    parser.add_argument("--images", help="folder that the names of the images are relative to")
    parser.add_argument("--annotations", type=Path, help="COCO panoptic JSON")
    parser.add_argument(
        "--maps", help="folder of the panoptic maps; the path of the JSON file without its ending if not given"
    )
    parser.add_argument(
        "--upright",
        action="store_true",
        help="the annotations belong to images turned upright as their EXIF orientation says",
    )
    parser.add_argument(
        "--grey-range", type=int, nargs=2, help="values of 16-bit grey images that become black and white"
    )
    parser.add_argument("--config", type=Path, help="configuration of a training, instead of the options above")
    parser.add_argument(
        "--workers",
        "--threads",
        type=int,
        help="number of processes that read files; one for each core, at most 8, if not given",
    )
    parser.add_argument("--json", type=Path, help="also write everything that was found to this file")
    options = parser.parse_args(arguments)
    others = (options.images, options.annotations, options.maps, options.upright, options.grey_range)
    if options.config is not None and any(others):
        parser.error(
            "--config takes the place of --images, --annotations, --maps, --upright and --grey-range; give one or the "
            "other"
        )
    if options.config is None and (options.images is None or options.annotations is None):
        parser.error("give either --images and --annotations, or --config")
    try:
        if options.config is not None:
            reports = _check_configured(options.config, options.workers)
            found: dict[str, Any] = {split: report.as_dict() for split, report in reports.items()}
        else:
            report = _check_panoptic(
                options.annotations,
                options.maps or options.annotations.with_suffix(""),
                options.images,
                upright=options.upright,
                grey_range=options.grey_range,
                workers=options.workers,
            )
            _remark_on_kinds(report)
            reports, found = {"": report}, report.as_dict()
        if options.json is not None:
            write_text(options.json, json.dumps(found, indent=2) + "\n")
    except (ValueError, OSError, BrokenExecutor) as error:
        sentence = explain_input(error, {"--json": options.json})
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    return 1 if any(report.problems for report in reports.values()) else 0


def _check_configured(config: Path, workers: int | None) -> dict[str, DatasetReport]:
    """Check the files of the splits of a configuration, whether or not it names a cache; return the report of each."""
    from efficientps.cli.data.data_section import configured_data
    from efficientps.data.dataset import DatasetOptions
    from efficientps.data.loading.datamodule import SPLITS
    from efficientps.data.sources.coco_panoptic import CocoPanopticDataModule
    from efficientps.data.tools.check import check_dataset

    data = configured_data(config)
    reports: dict[str, DatasetReport] = {}
    as_stored = DatasetOptions(grey_range=data.grey_range)
    for split in SPLITS:
        print(f"{split}:", flush=True)
        if type(data) is CocoPanopticDataModule:  # of this format every fault of the annotations is found, too
            place = data.place(split)
            reports[split] = _check_panoptic(
                data.annotations(split),
                place.maps or Path(place.annotations).with_suffix(""),
                place.images,
                upright=data.upright,
                grey_range=data.grey_range,
                workers=workers,
            )
            if not reports[split].problems:
                data.dataset(split, as_stored)  # refuses classes that are not those of the other split
        else:
            reports[split] = _report(partial(check_dataset, data.dataset(split, as_stored), workers=workers))
    if not any(report.problems for report in reports.values()):
        _check_first_step(config, data, reports["train"])
    return reports


def _check_first_step(config: Path, data: PanopticDataModule, report: DatasetReport) -> None:
    """Add to a report, and print, what keeps a training on good files from its first step."""
    from efficientps.cli.data.first_step import check_first_step

    try:
        check_first_step(config, data)
    except ValueError as error:
        report.problems.add(error)
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _remark_on_kinds(report: DatasetReport) -> None:
    """Add to a report, and print, that the default network would refuse classes that are all things, or all stuff."""
    num_things = sum(count.is_thing for count in report.classes)
    if num_things in (0, len(report.classes)):
        from efficientps.networks.efficientps import EfficientPS

        try:
            EfficientPS.check_classes(len(report.classes) - num_things, num_things)
        except ValueError as error:
            report.remarks.add(f"{error} DETRPanoptic learns things alone or stuff alone.")
            print(f"remark: {list(report.remarks)[-1]}")


def _check_panoptic(
    annotations: Path | AnnotationFile,
    maps: str | Path,
    images: str,
    *,
    upright: bool,
    grey_range: tuple[int, int] | None,
    workers: int | None,
) -> DatasetReport:
    """Check a split in the COCO panoptic format."""
    from efficientps.data.tools.check_coco import check_coco_panoptic

    return _report(
        partial(check_coco_panoptic, annotations, maps, images, upright=upright, grey_range=grey_range, workers=workers)
    )


def _report(check: Callable[..., DatasetReport]) -> DatasetReport:
    """Run a check under a progress bar, and print what it found."""
    begin = time.perf_counter()
    with tqdm(unit=" images", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = check(progress=show)
    seconds = time.perf_counter() - begin
    print(report.table())
    for line in report.remarks.lines("remark: "):
        print(line)
    for line in report.problems.lines("error: "):
        print(line, file=sys.stderr)
    rate = report.images / max(seconds, 1e-9)
    print(
        f"{report.images} images in {seconds:.1f} s ({rate:.0f} a second): "
        f"{len(report.problems)} problems in {report.bad_images} images, {len(report.remarks)} remarks."
    )
    return report
