"""Measure this project and its peers in turns, in one process.

    python scripts/benchmark.py fusion                     the panoptic fusion against full canvases
    python scripts/benchmark.py pq --json pq.json          panoptic quality against cityscapesscripts and torchmetrics
    python scripts/benchmark.py data                       training samples against bare PNG decoding
    python scripts/benchmark.py model                      the networks against Mask2Former, Mask R-CNN and DETR
    python scripts/benchmark.py train                      their training steps
    python scripts/benchmark.py growth --plot growth.png   time and memory over batch, pixels and instances
    python scripts/benchmark.py profile                    operations that take most of the time
    python scripts/benchmark.py batch --device cuda        the largest batch within 11, 24 and 80 GB
    python scripts/benchmark.py ceilings --root TREE       scores enlarged to the image file, against ids
    python scripts/benchmark.py annotations                fit, check and split with annotations as many as COCO's
    python scripts/benchmark.py summary benchmarks/*.json  the table of benchmarks/README.md

Each measurement prints median and quartiles of the wall-clock time, the median of the CPU time, and the bars that the
project sets itself. A side whose package is not installed (pip install -e '.[bench]') is reported as skipped.
"""

from __future__ import annotations

import argparse
import ast
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import presets  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.report import Report

FULL_SIZE = (1024, 2048)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; return 0, or 1 after an error message or a bar that must not be missed."""
    options = vars(_parser().parse_args(arguments))
    try:
        if "reports" in options:
            print(import_module("benchmarks.summary").markdown(options["reports"]))
            return 0
        return _run(**options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except ImportError as error:
        print(f"error: {error}; install what is missing with: pip install -e '.[bench]'.", file=sys.stderr)
    return 1


def _run(*, module: str, threads: int, json: Path | None, keeps: bool, strict: bool, **options: Any) -> int:
    """Import only the module of a subcommand, run it, print its report and write it.

    Returns:
        0, or 1 if the subcommand is strict and a bar was missed or a side not measured.
    """
    import torch

    torch.set_num_threads(threads)
    if options.get("device") == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device here; leave --device out to measure on the CPU.")
    if json is not None and not json.absolute().parent.is_dir():
        raise ValueError(f"The folder of '{json}' does not exist; make it first.")
    if keeps:
        options["file"] = json
    options = {
        name: tuple(value) if name.endswith("size") and isinstance(value, list) else value
        for name, value in options.items()
        if value is not None
    }
    report: Report = import_module(f"benchmarks.{module}").run(**options)
    print(report.table())
    if json is not None:
        report.write(json)
    return int(strict and (bool(report.skipped) or not all(bar.reached for bar in report.bars)))


def _parser() -> argparse.ArgumentParser:
    """Return the parser; every option is an argument of the subcommand's ``run``, by its name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", type=Path, metavar="FILE", help="also write the report to this file")
    shared.add_argument("--threads", type=int, default=_cores(), help="threads of torch (default: all cores)")
    commands = parser.add_subparsers(required=True, metavar="SUBCOMMAND")

    def command(
        name: str,
        module: str,
        *,
        rounds: int | None,
        size: tuple[int, int] | None,
        keeps: bool = False,
        has_device: bool = True,
        strict: bool = False,
    ) -> argparse.ArgumentParser:
        """Add a subcommand.

        ``keeps`` means that its ``run`` writes the file after each side, ``strict`` that a missed bar is an error.
        """
        summary = _summary(module)
        added = commands.add_parser(
            name, parents=[shared], help=summary, description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        added.set_defaults(module=module, keeps=keeps, strict=strict)
        if has_device:
            added.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        if rounds is not None:
            added.add_argument("--rounds", type=int, default=rounds, help="timed calls of each side")
        if size is not None:
            added.add_argument("--size", type=int, nargs=2, default=size, metavar=("HEIGHT", "WIDTH"))
        return added

    fusion = command("fusion", "panoptic_fusion", rounds=5, size=FULL_SIZE)
    fusion.add_argument("--instances", type=int, nargs="+", default=[5, 30, 100])
    pq = command("pq", "panoptic_quality", rounds=15, size=FULL_SIZE)
    pq.add_argument("--segments", type=int, default=40, help="segments of each map")
    data = command("data", "loading", rounds=24, size=FULL_SIZE, has_device=False)
    data.add_argument("--root", help="a prepared Cityscapes tree, instead of synthetic scenes")
    model = command("model", "networks", rounds=3, size=(512, 1024), keeps=True)
    _network_options(model, several=True)
    model.add_argument(
        "--without",
        nargs="+",
        default=(),
        metavar="PEER",
        help="peers to leave out; at 1024x2048 DETR-R50-panoptic does not fit into 24 GB of memory",
    )
    model.add_argument(
        "--no-peer-activations",
        dest="peer_activations",
        action="store_false",
        help="do not count the activations that the peers' training would save; counting needs memory for such a step",
    )
    model.add_argument("--checkpoints", nargs="+", default=(), metavar="FILE", help="trained weights, one per preset")
    train = command("train", "training_step", rounds=3, size=(512, 1024), keeps=True)
    _network_options(train, several=False)
    train.add_argument("--memory", dest="memory_options", nargs="+", metavar="OPTION")
    grow = command("growth", "growth", rounds=3, size=(256, 512))
    _one_preset(grow)
    grow.add_argument("--plot", type=Path, metavar="PNG", help="file for a plot of the growth")
    spots = command("profile", "hot_spots", rounds=1, size=(512, 1024))
    _one_preset(spots)
    spots.add_argument("--memory", dest="memory_option", default="in-place", metavar="OPTION")
    spots.add_argument("--batch-size", type=int, default=1)
    spots.add_argument("--top", type=int, default=10, help="number of operations in the report")
    batch = command("batch", "largest_batch", rounds=None, size=FULL_SIZE)
    _one_preset(batch, precision="bf16")
    batch.add_argument("--memory", dest="memory_options", nargs="+", default=["in-place", "checkpointed"])
    batch.add_argument("--limits", dest="limits_gb", type=float, nargs="+", default=[11, 24, 80], metavar="GB")
    memory = command("memory", "peak_memory", rounds=None, size=FULL_SIZE, keeps=True)
    _one_preset(memory, precision="bf16")
    memory.add_argument("--memory", dest="memory_options", nargs="+", default=["in-place", "checkpointed"])
    memory.add_argument("--batches", type=int, nargs="+", default=[1, 2, 3], help="images in a step")
    memory.add_argument("--limit", dest="limit_gb", type=float, default=11, metavar="GB")
    predict = command("predict", "prediction", rounds=10, size=FULL_SIZE, keeps=True)
    predict.add_argument("--presets", dest="names", nargs="+", metavar="PRESET")
    predict.add_argument("--instances", type=int, default=30, help="instances that each network predicts")
    predict.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    predict.add_argument("--compiled", action="store_true", help="time torch.compile, too, which takes minutes")
    parity = command("parity", "device_parity", rounds=None, size=(256, 512), keeps=True)
    parity.add_argument("--batch-size", type=int, default=2)
    parity.add_argument("--networks", dest="kinds", nargs="+", default=(), metavar="NAME", help="default: all")
    parity.add_argument("--half", dest="half_precisions", nargs="*", choices=["bf16", "fp16"], default=["bf16", "fp16"])
    launches = command("launches", "launches", rounds=None, size=FULL_SIZE, keeps=True, has_device=False)
    launches.add_argument("--presets", dest="names", nargs="+", metavar="PRESET")
    launches.add_argument("--instances", type=int, default=30, help="instances that each network predicts")
    launches.add_argument("--step-size", type=int, nargs=2, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    ceiling = command("ceilings", "ceilings", rounds=5, size=FULL_SIZE, keeps=True)
    ceiling.add_argument("--root", metavar="TREE", help="a Cityscapes tree; without it, time and memory alone")
    ceiling.add_argument("--split", default="val", help="of the tree")
    ceiling.add_argument(
        "--input", dest="input_size", type=int, nargs=2, default=(512, 1024), metavar=("HEIGHT", "WIDTH")
    )
    ceiling.add_argument(
        "--strides", type=int, nargs="+", default=[4, 1], help="of exact scores, in pixels of the input"
    )
    ceiling.add_argument("--preset", dest="name", default=presets.REFERENCE)
    ceiling.add_argument("--checkpoint", metavar="FILE", help="trained weights of the preset")
    ceiling.add_argument("--instances", type=int, default=30, help="that the timed network finds")
    annotations = command(
        "annotations", "annotations", rounds=None, size=None, keeps=True, has_device=False, strict=True
    )
    annotations.add_argument("--images", type=int, default=118_287, help="number of images of the set")
    annotations.add_argument("--segments", type=int, default=900_000, help="number of segments of the set")
    annotations.add_argument("--commands", nargs="+", default=["fit", "check", "split"], metavar="NAME")
    annotations.add_argument("--folder", type=Path, help="where the set is made (default: a temporary folder)")
    fit = command("fit", "trainings", rounds=None, size=None, keeps=True)
    fit.add_argument("names", nargs="+", metavar="NAME", help="names of the trainings")
    fit.add_argument("--scenes", type=Path, default=ROOT / "datasets/synthetic", help="a synthetic Cityscapes tree")
    fit.add_argument("--folder", type=Path, default=ROOT / "runs/benchmark", help="folder for the runs and their logs")
    fit.add_argument("--workers", type=int, default=8, help="number of processes that load data")
    fit.add_argument("--steps", type=int, help="largest number of batches of an epoch, for a trial run")
    tables = commands.add_parser("summary", help="Markdown tables of reports that --json has written")
    tables.add_argument("reports", type=Path, nargs="+")
    return parser


def _network_options(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Add the options of benchmarks that run networks."""
    default = list(presets.ALL) if several else [presets.REFERENCE]
    parser.add_argument("--presets", dest="names", nargs="+", default=default, metavar="PRESET")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--no-peers", dest="with_peers", action="store_false", help="leave the peers out")


def _one_preset(parser: argparse.ArgumentParser, *, precision: str = "fp32") -> None:
    """Add the options of benchmarks of one network."""
    parser.add_argument("--preset", dest="name", default=presets.REFERENCE)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default=precision)


def _summary(module: str) -> str:
    """Return the first line of a module's docstring after the colon, without importing the module."""
    source = (ROOT / f"benchmarks/{module}.py").read_text()
    return str(ast.get_docstring(ast.parse(source))).partition(": ")[2].strip()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end(*_: object) -> None:
    """Exit on SIGTERM through ``finally`` blocks, so that measurements are written and child processes are ended."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
