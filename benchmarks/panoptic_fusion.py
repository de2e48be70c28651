"""``fusion``: the panoptic fusion, compared with a plain implementation on full canvases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.full_canvas_fusion import full_canvas_fusion
from benchmarks.memory import peak_bytes
from benchmarks.report import Bar, Report
from benchmarks.scenes import FULL_SIZE, semantic_logits, street_instances
from benchmarks.timing import alternate
from efficientps.networks.efficientps.panoptic_fusion import panoptic_fusion

NUM_STUFF = 11
SPEEDUP, SPEEDUP_AT = 10.0, 30
EXTRA_MB, EXTRA_MB_AT = 150.0, 100
"""Bar on a CPU only: a GPU renders up to 2**22 entries of about 70 bytes together."""


def run(
    *,
    size: tuple[int, int] = FULL_SIZE,
    instances: Sequence[int] = (5, SPEEDUP_AT, EXTRA_MB_AT),
    rounds: int = 5,
    device: str = "cpu",
) -> Report:
    """Time both implementations with 19 classes, and measure the memory that each needs in addition to its inputs.

    Args:
        size: (height, width) of the image.
        instances: numbers of instances, one case each.
        rounds: number of timed calls.
        device: device of both implementations.
    """
    report = Report("fusion", {"size": list(size), "instances": list(instances), "rounds": rounds, "device": device})
    logits = semantic_logits(size, device=device)
    for number in instances:
        found = street_instances(number, size, device=device)
        sides = {
            "EfficientPS": partial(panoptic_fusion, logits, found, num_stuff=NUM_STUFF),
            "full canvases": partial(full_canvas_fusion, logits, found, num_stuff=NUM_STUFF),
        }
        disagreement = _share_of_pixels_that_differ(*(side().segment_ids for side in sides.values()))
        timings = alternate(sides, rounds=rounds, device=device)
        extra = {name: peak_bytes(side, device=device) for name, side in sides.items()}
        figures = {name: {"extra_mb": round(taken / 1e6, 1)} for name, taken in extra.items() if taken is not None}
        figures.setdefault("EfficientPS", {})["share_of_pixels_that_differ"] = disagreement
        report.add(f"{number} instances", timings, figures)
        if number == SPEEDUP_AT:
            ratio = timings["full canvases"].seconds / timings["EfficientPS"].seconds
            report.bars.append(Bar(f"times faster at {number} instances", ratio, ">=", SPEEDUP))
        if number == EXTRA_MB_AT and device == "cpu" and "extra_mb" in figures["EfficientPS"]:
            taken_mb = figures["EfficientPS"]["extra_mb"]
            report.bars.append(Bar(f"MB of extra memory at {number} instances", taken_mb, "<=", EXTRA_MB))
    return report


def _share_of_pixels_that_differ(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours != theirs).double().mean())
