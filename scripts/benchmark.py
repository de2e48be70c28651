"""Measure this project beside its peers, in one process and in turns.

    python scripts/benchmark.py fusion                     the panoptic fusion against full canvases
    python scripts/benchmark.py pq --json pq.json          panoptic quality against cityscapesscripts and torchmetrics
    python scripts/benchmark.py data                       training samples against bare PNG decoding

Each prints medians and quartiles of the wall clock, the median of the processor time, and the bars that the project
sets itself. What needs a package that is not installed (pip install -e '.[bench]') is named and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from efficientps.benchmarks import loading, panoptic_fusion, panoptic_quality
from efficientps.benchmarks.report import Report
from efficientps.benchmarks.scenes import FULL_SIZE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; return 0, or 1 after a sentence that says what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        torch.set_num_threads(options.threads)
        if options.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("There is no CUDA device here; leave --device out to measure on the CPU.")
        if options.json is not None and not options.json.absolute().parent.is_dir():
            raise ValueError(f"The folder of '{options.json}' does not exist; make it first.")
        report: Report = options.run(options)
        print(report.table())
        if options.json is not None:
            report.write(options.json)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    shared.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    shared.add_argument("--threads", type=int, default=_cores(), help="of torch (default: all cores)")
    commands = parser.add_subparsers(required=True, metavar="SUBCOMMAND")

    def command(name: str, module: object, *, rounds: int, size: tuple[int, int]) -> argparse.ArgumentParser:
        summary = str(module.__doc__).partition(": ")[2].strip()
        added = commands.add_parser(
            name, parents=[shared], help=summary, description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        added.add_argument("--rounds", type=int, default=rounds, help="timed calls of each side")
        added.add_argument("--size", type=int, nargs=2, default=size, metavar=("HEIGHT", "WIDTH"))
        return added

    fusion = command("fusion", panoptic_fusion, rounds=5, size=FULL_SIZE)
    fusion.add_argument("--instances", type=int, nargs="+", default=[5, 30, 100])
    fusion.set_defaults(
        run=lambda o: panoptic_fusion.run(size=tuple(o.size), instances=o.instances, rounds=o.rounds, device=o.device)
    )
    pq = command("pq", panoptic_quality, rounds=15, size=FULL_SIZE)
    pq.add_argument("--segments", type=int, default=40, help="in each map")
    pq.set_defaults(
        run=lambda o: panoptic_quality.run(size=tuple(o.size), segments=o.segments, rounds=o.rounds, device=o.device)
    )
    data = command("data", loading, rounds=24, size=FULL_SIZE)
    data.add_argument("--root", help="a prepared Cityscapes tree in place of synthetic scenes of this size")
    data.set_defaults(run=lambda o: loading.run(size=tuple(o.size), rounds=o.rounds, root=o.root))
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
