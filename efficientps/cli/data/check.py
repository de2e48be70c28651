"""Check a data set in the COCO panoptic format: every reference, every file, and the number of objects of each class.

    python datasets/check_panoptic.py --images datasets/yard/images --annotations datasets/yard/train.json \
        --maps datasets/yard/panoptic

The exit code is 0 if training can read all of it. It is 1 if something is wrong; each problem is printed as one line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from efficientps.atomic_file import write_text
from efficientps.data.tools.check_coco import check_coco_panoptic


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the data set; return 0 if nothing is wrong, otherwise 1."""
    parser = argparse.ArgumentParser(
        description=__doc__.strip().split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--images", required=True, help="folder that the names of the images are relative to")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO panoptic JSON")
    parser.add_argument(
        "--maps", help="folder of the panoptic maps; the path of the JSON file without its ending if not given"
    )
    parser.add_argument(
        "--upright",
        action="store_true",
        help="the annotations belong to images turned upright as their EXIF orientation says",
    )
    parser.add_argument("--threads", type=int, help="number of files read at a time; one for each core if not given")
    parser.add_argument("--json", type=Path, help="also write everything that was found to this file")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    try:
        with tqdm(unit=" images", disable=None) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            report = check_coco_panoptic(
                options.annotations,
                options.maps or options.annotations.with_suffix(""),
                options.images,
                upright=options.upright,
                threads=options.threads,
                progress=show,
            )
        if options.json is not None:
            write_text(options.json, json.dumps(report.as_dict(), indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begin
    print(report.table())
    for remark in report.remarks:
        print(f"remark: {remark}")
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    rate = report.images / max(seconds, 1e-9)
    print(
        f"{report.images} images in {seconds:.1f} s ({rate:.0f} a second): "
        f"{len(report.problems)} problems in {report.bad_images} images, {len(report.remarks)} remarks."
    )
    return 1 if report.problems else 0
