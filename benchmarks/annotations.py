"""``annotations``: time and memory of fit, check and split for an annotation file as large as COCO's."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.annotation_set import write_annotation_set
from benchmarks.process_tree import Usage, usage_of
from benchmarks.report import Bar, Report

ROOT = Path(__file__).resolve().parents[1]

IMAGES, SEGMENTS = 118_287, 900_000
"""Images of the training set of COCO panoptic, and about as many segments as it has."""

COMMANDS = ("fit", "check", "split")

FIT_SECONDS, FIT_EXTRA_MB = 8.0, 700.0
"""To the first step of a training, and its memory in addition to that of a training on a tiny set."""

TOOL_SECONDS, TOOL_MB = 30.0, 1000.0
"""Of ``check`` and of ``split``."""

_TINY = 16
"""Images of the tiny set."""


def run(
    *,
    images: int = IMAGES,
    segments: int = SEGMENTS,
    commands: Sequence[str] = COMMANDS,
    folder: Path | None = None,
    file: Path | None = None,
) -> Report:
    """Make a set of tiny images, and run commands on it, each in processes of its own.

    The bars are those of the default numbers; a smaller set has the same.

    Args:
        images: number of images.
        segments: number of segments.
        commands: of ``COMMANDS``.
        folder: where the set is made and deleted again; by default in the system's folder of temporary files.
        file: file that ``Report`` writes.

    Raises:
        ValueError: if a command is unknown, or an image would have no segment, or too many.
    """
    if unknown := set(commands) - set(COMMANDS):
        raise ValueError(f"There is no command '{min(unknown)}' here; the commands are {', '.join(COMMANDS)}.")
    report = Report("annotations", {"images": images, "segments": segments}, file=file)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        large = write_annotation_set(Path(work, "large"), images=images, segments=segments)
        if "fit" in commands:
            with report.side("fit"):
                tiny = write_annotation_set(Path(work, "tiny"), images=_TINY, segments=_TINY * -(-segments // images))
                _measure_fit(report, large, images, tiny)
        if "check" in commands:
            with report.side("check"):
                words = ["--images", "images", "--annotations", large.name, "--maps", "maps"]
                _measure_tool(report, "check", words, large, images)
        if "split" in commands:
            with report.side("split"):
                words = [large.name, "--train", "a.json", "--val", "b.json"]
                _measure_tool(report, "split", words, large, images)
    return report


def _measure_fit(report: Report, large: Path, images: int, tiny: Path) -> None:
    """Measure trainings up to their first step."""
    without, with_it = (_first_step(path.parent) for path in (tiny, large))
    _add(report, "fit to its first step", _TINY, without)
    _add(report, "fit to its first step", images, with_it)
    extra = (with_it.peak_bytes - without.peak_bytes) / 1e6
    report.bars.append(Bar("fit: seconds to the first step", with_it.seconds, "<=", FIT_SECONDS))
    report.bars.append(Bar(f"fit: MB above those with {_TINY} images", extra, "<=", FIT_EXTRA_MB))


def _first_step(root: Path) -> Usage:
    """Train the smallest network of the preset for this format on a set, up to the first step."""
    sign = root / "first_step"
    place = "{images: images, annotations: train.json, maps: maps}"
    callback = f"[{{class_path: benchmarks.first_step.FirstStep, init_args: {{file: '{sign}'}}}}]"
    options = {
        "config": str(ROOT / "configs/coco_panoptic.yaml"),
        "data.root": str(root),
        "data.train": place,
        "data.val": place,
        "data.image_size": "[64, 64]",
        "data.batch_size": "2",
        "model.network.init_args.backbone": "{variant: b0, pretrained: false}",
        "trainer.accelerator": "cpu",
        "trainer.precision": "32",
        "trainer.num_sanity_val_steps": "0",
        "trainer.callbacks+": callback,
        "trainer.default_root_dir": str(root / "runs"),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return usage_of([sys.executable, str(ROOT / "train_net.py"), "fit", *words], folder=root, until=sign)


def _measure_tool(report: Report, name: str, words: Sequence[str], annotations: Path, images: int) -> None:
    """Measure a command without a network, which runs from the folder of the set."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from efficientps.cli.main import main; sys.exit(main())"
    usage = usage_of([sys.executable, "-c", code, name, *words], folder=annotations.parent)
    _add(report, name, images, usage)
    report.bars.append(Bar(f"{name}: seconds", usage.seconds, "<=", TOOL_SECONDS))
    report.bars.append(Bar(f"{name}: MB", usage.peak_bytes / 1e6, "<=", TOOL_MB))


def _add(report: Report, case: str, images: int, usage: Usage) -> None:
    figures = {"wall_s": usage.seconds, "cpu_s": usage.cpu_seconds, "peak_mb": usage.peak_bytes / 1e6}
    report.add_figures(case, f"{images} images", figures)
