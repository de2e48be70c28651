"""Measure this project beside its peers, in one process and in turns.

    python scripts/benchmark.py fusion                     the panoptic fusion against full canvases
    python scripts/benchmark.py pq --json pq.json          panoptic quality against cityscapesscripts and torchmetrics
    python scripts/benchmark.py data                       training samples against bare PNG decoding
    python scripts/benchmark.py model                      the networks against Mask2Former, Mask R-CNN and DETR
    python scripts/benchmark.py train                      their training steps
    python scripts/benchmark.py growth --plot growth.png   time and memory over batch, pixels and instances
    python scripts/benchmark.py profile                    operations that take most of the time
    python scripts/benchmark.py batch --device cuda        the largest batch within 11, 24 and 80 GB
    python scripts/benchmark.py summary benchmarks/*.json  the table of benchmarks/README.md

Each measurement prints medians and quartiles of the wall clock, the median of the processor time, and the bars that
the project sets itself. What needs a package that is not installed (pip install -e '.[bench]') is named and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from efficientps.benchmarks import (
    growth,
    hot_spots,
    largest_batch,
    loading,
    networks,
    panoptic_fusion,
    panoptic_quality,
    presets,
    summary,
    training_step,
)
from efficientps.benchmarks.report import Report
from efficientps.benchmarks.scenes import FULL_SIZE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; return 0, or 1 after a sentence that says what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if "reports" in options:
            print(summary.markdown(options.reports))
            return 0
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

    def command(name: str, module: object, *, rounds: int | None, size: tuple[int, int]) -> argparse.ArgumentParser:
        summary = str(module.__doc__).partition(": ")[2].strip()
        added = commands.add_parser(
            name, parents=[shared], help=summary, description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        if rounds is not None:
            added.add_argument("--rounds", type=int, default=rounds, help="measured calls of each side")
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
    model = command("model", networks, rounds=3, size=(512, 1024))
    _network_options(model, several=True)
    model.add_argument(
        "--without",
        nargs="+",
        default=(),
        metavar="PEER",
        help="leave these out: at 1024x2048 DETR-R50-panoptic does not fit a machine of 24 GB",
    )
    model.add_argument(
        "--no-peer-activations",
        action="store_true",
        help="do not count what other people's networks keep in training, which takes the memory of such a step",
    )
    model.add_argument("--checkpoints", nargs="+", default=(), metavar="FILE", help="trained weights, one per preset")
    model.set_defaults(
        run=lambda o: networks.run(
            size=tuple(o.size),
            names=o.presets,
            batch_size=o.batch_size,
            precision=o.precision,
            rounds=o.rounds,
            device=o.device,
            with_peers=not o.no_peers,
            without=o.without,
            peer_activations=not o.no_peer_activations,
            checkpoints=o.checkpoints,
        )
    )
    train = command("train", training_step, rounds=3, size=(512, 1024))
    _network_options(train, several=False)
    train.add_argument("--memory", nargs="+", default=list(training_step.MEMORY_OPTIONS), metavar="OPTION")
    train.set_defaults(
        run=lambda o: training_step.run(
            size=tuple(o.size),
            names=o.presets,
            memory_options=o.memory,
            batch_size=o.batch_size,
            precision=o.precision,
            rounds=o.rounds,
            device=o.device,
            with_peers=not o.no_peers,
        )
    )
    grow = command("growth", growth, rounds=3, size=(256, 512))
    grow.add_argument("--preset", default=presets.REFERENCE)
    grow.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    grow.add_argument("--plot", type=Path, metavar="PNG", help="draw the growth there")
    grow.set_defaults(
        run=lambda o: growth.run(
            size=tuple(o.size), name=o.preset, precision=o.precision, rounds=o.rounds, device=o.device, plot=o.plot
        )
    )
    spots = command("profile", hot_spots, rounds=1, size=(512, 1024))
    spots.add_argument("--preset", default=presets.REFERENCE)
    spots.add_argument("--memory", default="in-place", metavar="OPTION")
    spots.add_argument("--batch-size", type=int, default=1)
    spots.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    spots.add_argument("--top", type=int, default=10, help="operations to name")
    spots.set_defaults(
        run=lambda o: hot_spots.run(
            size=tuple(o.size),
            name=o.preset,
            memory_option=o.memory,
            batch_size=o.batch_size,
            precision=o.precision,
            rounds=o.rounds,
            device=o.device,
            top=o.top,
        )
    )
    batch = command("batch", largest_batch, rounds=None, size=FULL_SIZE)
    batch.add_argument("--preset", default=presets.REFERENCE)
    batch.add_argument("--memory", nargs="+", default=["in-place", "checkpointed"], metavar="OPTION")
    batch.add_argument("--limits", type=float, nargs="+", default=[11, 24, 80], metavar="GB")
    batch.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    batch.set_defaults(
        run=lambda o: largest_batch.run(
            size=tuple(o.size),
            name=o.preset,
            memory_options=o.memory,
            limits_gb=o.limits,
            precision=o.precision,
            device=o.device,
        )
    )
    tables = commands.add_parser("summary", help="the Markdown table of reports that --json wrote")
    tables.add_argument("reports", type=Path, nargs="+")
    return parser


def _network_options(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Add the options of benchmarks that run networks."""
    parser.add_argument("--presets", nargs="+", default=list(presets.ALL) if several else [presets.REFERENCE])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--no-peers", action="store_true", help="leave other people's networks out")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
