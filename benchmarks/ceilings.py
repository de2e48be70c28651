"""``ceilings``: panoptic quality with scores enlarged to the size of the image file, compared with enlarged ids."""

from __future__ import annotations

from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.transforms import v2

from benchmarks import presets
from benchmarks.batches import street_batch
from benchmarks.forced_instances import draw_street_masks, force_instances
from benchmarks.memory import peak_bytes
from benchmarks.networks import load_weights
from benchmarks.report import Report
from benchmarks.timing import alternate
from efficientps.data.formats.image_file import read_image
from efficientps.data.hidden_files import visible
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.metrics.evaluator import Evaluator
from efficientps.metrics.panoptic_quality import PanopticQuality
from efficientps.networks.efficientps.network import EfficientPS
from efficientps.networks.efficientps.panoptic_fusion import semantic_maps
from efficientps.networks.image_logits import logits_of_image
from efficientps.networks.network import PanopticNetwork
from efficientps.structures import VOID, ImageBatch, PanopticSegmentation, Prediction, Segment

IDS, SCORES = "ids enlarged", "scores enlarged"

_MAPS = "_gtFine_instanceIds.png"


def run(
    *,
    root: str | None = None,
    split: str = "val",
    input_size: tuple[int, int] = (512, 1024),
    strides: tuple[int, ...] = (4, 1),
    name: str = presets.REFERENCE,
    checkpoint: str | None = None,
    size: tuple[int, int] = (1024, 2048),
    instances: int = 30,
    rounds: int = 5,
    device: str = "cpu",
    file: Path | None = None,
) -> Report:
    """Compare enlarged scores and enlarged ids on true maps, on a trained network, and in time and memory.

    On true maps, the score of a segment in a cell of a grid is the share of the cell that the segment covers, as a
    perfect network would predict it. The panoptic quality of the fused map is an upper bound. Ids are enlarged by
    nearest neighbour from the size of the network's input, scores bilinearly from the grid.

    Args:
        root: root of a Cityscapes tree with true maps ``gtFine/SPLIT/CITY/*_gtFine_instanceIds.png``, and with images
            if a checkpoint is given; without ``root``, only time and memory are measured.
        split: split of the tree.
        input_size: (height, width) that a network sees, multiples of 32.
        strides: strides of the grid of scores, in pixels of the input; 4 in this package's networks, 1 for a network
            that is exact at the size of its input.
        name: preset.
        checkpoint: trained weights of the preset.
        size: (height, width) of the image file whose prediction is timed.
        instances: number of instances that the timed network predicts, independent of its weights.
        rounds: number of timed calls; with 0, time and memory are not measured.
        device: device of the networks.
        file: file that ``Report`` writes.
    """
    options = {"split": split, "input_size": list(input_size), "preset": name, "size": list(size)}
    report = Report("ceilings", options | {"instances": instances, "rounds": rounds, "device": device}, file=file)
    seen_at = f"input {input_size[0]}x{input_size[1]}"
    if root is not None:
        maps = _map_files(Path(root), split)
        for stride in strides:
            with report.side(f"true scores at stride {stride}"):
                figures = ceilings(maps, input_size, stride)
                for side, quality in figures.items():
                    report.add_figures(f"{len(maps)} true maps, stride {stride}, {seen_at}", side, quality)
    if root is not None and checkpoint is not None:
        with report.side(name):
            network = presets.build(name)
            load_weights(network, name, checkpoint)
            for side, quality in evaluations(network.to(device).eval(), maps, input_size, device).items():
                report.add_figures(f"{len(maps)} images, {name}, {seen_at}", side, quality)
    if rounds:
        with report.side(f"time of {name}"):
            _time(report, name, input_size, size, instances, rounds, device)
    return report


def ceilings(maps: list[Path], input_size: tuple[int, int], stride: int) -> dict[str, dict[str, float]]:
    """Return the panoptic quality, in percent, of maps fused from exact scores at a stride of the network's input."""
    categories = CITYSCAPES_CATEGORIES
    metrics = {
        side: PanopticQuality(num_stuff=categories.num_stuff, num_things=categories.num_things)
        for side in (IDS, SCORES)
    }
    for path in maps:
        truth = _true_map(path)
        height, width = truth.segment_ids.shape
        cells = (input_size[0] // stride, input_size[1] // stride)
        ids = [VOID, *(segment.id for segment in truth.segments)]
        shares = torch.cat([adaptive_avg_pool2d((truth.segment_ids == i).float()[None], cells) for i in ids])
        for side, at in ((IDS, input_size), (SCORES, (height, width))):
            scores = logits_of_image(shares, canvas=input_size, image_size=input_size, size=at)
            best = semantic_maps(scores, len(ids)).stuff.long() - 1
            found = torch.tensor(ids, dtype=torch.int32)[best]
            present = set(torch.unique(found).tolist())
            segments = [segment for segment in truth.segments if segment.id in present and not segment.is_crowd]
            found[~torch.isin(found, torch.tensor([segment.id for segment in segments]))] = VOID
            metrics[side].update([PanopticSegmentation(found, segments).resize((height, width))], [truth])
    figures = {}
    for side, metric in metrics.items():
        result = metric.compute()
        parts = (("PQ", result.all), ("PQ_things", result.things), ("PQ_stuff", result.stuff))
        figures[side] = {part: 100 * float(average.pq) for part, average in parts}
    return figures


def evaluations(
    network: PanopticNetwork, maps: list[Path], input_size: tuple[int, int], device: str
) -> dict[str, dict[str, float]]:
    """Return the metrics, in percent, of a trained network that fuses at the size of its input, and of the files.

    At the size of the input, the smallest area of stuff is reduced in proportion.
    """
    evaluators = {side: Evaluator(CITYSCAPES_CATEGORIES) for side in (IDS, SCORES)}
    for path in maps:
        truth = _true_map(path)
        batch = _batch(path, input_size, device)
        for side, evaluator in evaluators.items():
            (prediction,) = _predict(network, batch, side)
            evaluator.update(prediction, truth)
    return {
        side: {
            figure: 100 * value
            for figure, value in evaluator.compute().figures().items()
            if figure in ("PQ", "PQ_things", "PQ_stuff", "mIoU", "AP")
        }
        for side, evaluator in evaluators.items()
    }


def _time(
    report: Report,
    name: str,
    input_size: tuple[int, int],
    size: tuple[int, int],
    instances: int,
    rounds: int,
    device: str,
) -> None:
    network = presets.build(name).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    force_instances(network, instances)
    draw_street_masks(network, input_size, lambda tensor: tensor.to(device))
    scene = street_batch(1, input_size, device=device)
    batch = ImageBatch(
        images=scene["images"], image_sizes=[input_size], original_sizes=[size], image_ids=scene["image_ids"]
    )

    def predicted(side: str) -> object:
        return [prediction.resize(size) for prediction in _predict(network, batch, side)]

    sides = {f"{name}, {side}": partial(predicted, side) for side in (IDS, SCORES)}
    timings = alternate(sides, rounds=rounds, device=device)
    taken = {side: peak_bytes(predict, device=device) for side, predict in sides.items()}
    extra = {side: {"extra_mb": round(value / 1e6, 1)} for side, value in taken.items() if value is not None}
    report.add(f"{input_size[0]}x{input_size[1]} to {size[0]}x{size[1]}, {instances} instances", timings, extra)


def _predict(network: PanopticNetwork, batch: ImageBatch, side: str) -> list[Prediction]:
    """Predict at the size of the image files, or at the size of the network's input."""
    if side == SCORES:
        with torch.no_grad():
            return network.predict(batch)
    (height, width), (file_height, file_width) = batch["image_sizes"][0], batch["original_sizes"][0]
    smaller = copy(network)
    if isinstance(smaller, EfficientPS):
        smaller.min_stuff_area = round(smaller.min_stuff_area * height * width / (file_height * file_width))
    at_input = batch.copy()
    at_input["original_sizes"] = batch["image_sizes"]
    with torch.no_grad():
        return smaller.predict(at_input)


def _map_files(root: Path, split: str) -> list[Path]:
    folder = root / "gtFine" / split
    files = sorted(visible(folder.glob(f"*/*{_MAPS}"), folder))
    if not files:
        raise FileNotFoundError(f"'{root / 'gtFine' / split}' has no folder with files *{_MAPS}.")
    return files


def _true_map(path: Path) -> PanopticSegmentation:
    """Read an ``instanceIds`` map of Cityscapes.

    An id below 1000 is the label_id of stuff or of a crowd of things; an instance has the id 1000 * label_id + number.
    """
    with Image.open(path) as image:
        ids = torch.from_numpy(np.array(image, dtype=np.int32))
    known = {category.label_id: train_id for train_id, category in enumerate(CITYSCAPES_CATEGORIES)}
    segments = []
    for number in torch.unique(ids).tolist():
        label_id = number if number < 1000 else number // 1000
        if label_id not in known:
            ids[ids == number] = VOID
            continue
        is_thing = CITYSCAPES_CATEGORIES[known[label_id]].is_thing
        segments.append(Segment(number, known[label_id], is_thing, is_crowd=is_thing and number < 1000))
    return PanopticSegmentation(ids, segments)


def _batch(path: Path, input_size: tuple[int, int], device: str) -> ImageBatch:
    """Read the image of a true map as a validation does."""
    name = path.name.removesuffix(_MAPS)
    folder = path.parents[3] / "leftImg8bit" / path.parents[1].name / path.parent.name
    image = read_image(folder / f"{name}_leftImg8bit.png")
    original = (image.shape[1], image.shape[2])
    resized = v2.functional.resize(image, list(input_size), antialias=True)
    return ImageBatch(
        images=resized[None].to(device), image_sizes=[input_size], original_sizes=[original], image_ids=[name]
    )
