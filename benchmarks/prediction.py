"""``predict``: time of a prediction by the network, its inference copy, CUDA graphs and torch.compile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

import torch

from benchmarks import presets
from benchmarks.batches import Precision, street_batch
from benchmarks.forced_instances import draw_street_masks, force_instances
from benchmarks.inference_copies import Predict, copies, plain
from benchmarks.report import Report
from benchmarks.timing import alternate
from efficientps.networks.efficientps.network import CompiledPart, EfficientPS


def run(
    *,
    size: tuple[int, int] = (1024, 2048),
    names: Sequence[str] = ("cityscapes_paper", "cityscapes_solov2_1024x2048"),
    instances: int = 30,
    precision: Precision = "bf16",
    rounds: int = 10,
    device: str = "cpu",
    compiled: bool = False,
    file: Path | None = None,
) -> Report:
    """Time predictions of one image; the sides of a preset take turns, and the presets follow one another.

    Args:
        size: (height, width) of the image, multiples of 32.
        names: presets.
        instances: number of instances that each network predicts, independent of its weights.
        precision: precision of all sides.
        rounds: number of timed calls.
        device: device of all sides.
        compiled: time ``torch.compile`` of three parts, too; its first call takes minutes.
        file: file that ``Report`` writes.
    """
    options = {"size": list(size), "presets": list(names), "instances": instances, "precision": precision}
    report = Report("predict", options | {"rounds": rounds, "device": device}, file=file)
    batch = street_batch(1, size, device=device)
    case = f"{size[0]}x{size[1]}, {precision}, {instances} instances"
    for name in names:
        presets.path(name)
        sides: dict[str, Predict] = {}

        def measure(side: str, predict: Predict, sides: dict[str, Predict] = sides) -> None:
            report.add(case, alternate({side: predict}, rounds=1, device=device), {})
            sides[side] = predict

        with report.side(name):
            network = presets.build(name).to(device)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            force_instances(network, instances)
            draw_street_masks(network, size, lambda tensor: tensor.to(device))
            measure(name, plain(network, batch, precision, device))
            for copied, build in copies(network, batch, precision, device).items():
                with report.side(f"{name}, {copied}"):
                    measure(f"{name}, {copied}", build())
            report.add(case, alternate(sides, rounds=rounds, device=device, warm_up=False), {})
        if compiled:
            with report.side(f"{name}, torch.compile"):
                cast(EfficientPS, network).compile_parts(get_args(CompiledPart))
                alone = {f"{name}, torch.compile": plain(network, batch, precision, device)}
                report.add(case, alternate(alone, rounds=rounds, device=device), {})
    return report
