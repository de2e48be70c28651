"""``pq``: time of the panoptic quality of one image, compared with cityscapesscripts and torchmetrics."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official
from torchmetrics.detection import PanopticQuality as TorchmetricsPanopticQuality

from benchmarks.report import Bar, Report
from benchmarks.scenes import FULL_SIZE, segments_pair
from benchmarks.timing import alternate
from efficientps.data.sources.cityscapes import CITYSCAPES_CATEGORIES
from efficientps.metrics.panoptic_quality import PanopticQuality
from efficientps.structures import PanopticSegmentation

NUM_STUFF, NUM_THINGS = CITYSCAPES_CATEGORIES.num_stuff, CITYSCAPES_CATEGORIES.num_things
NUM_CLASSES = NUM_STUFF + NUM_THINGS
OFFICIAL_SPEEDUP, TORCHMETRICS_SPEEDUP = 3.0, 500.0
AGREEMENT = 1e-9
_SLOW_ROUNDS = 2


def run(*, size: tuple[int, int] = FULL_SIZE, segments: int = 40, rounds: int = 15, device: str = "cpu") -> Report:
    """Time ``PanopticQuality.update`` and the functions of its peers on one pair of decoded maps.

    Args:
        size: (height, width) of the maps.
        segments: number of segments of each map.
        rounds: number of timed calls; torchmetrics takes seconds per call and is timed at most twice.
        device: device of the maps for ``PanopticQuality``; the peers run on the CPU.
    """
    report = Report("pq", {"size": list(size), "segments": segments, "rounds": rounds, "device": device})
    prediction, target = segments_pair(segments, size)
    ours = PanopticQuality(num_stuff=NUM_STUFF, num_things=NUM_THINGS)
    moved = [PanopticSegmentation(side.segment_ids.to(device), side.segments) for side in (prediction, target)]
    core = official_core(prediction, target)
    torchmetrics = torchmetrics_update(prediction, target)
    timings = alternate(
        {"EfficientPS": lambda: ours.update(moved[:1], moved[1:]), "cityscapesscripts": core},
        rounds=rounds,
        device=device,
    )
    timings |= alternate({"torchmetrics": torchmetrics}, rounds=min(rounds, _SLOW_ROUNDS))
    ours.reset()
    ours.update(moved[:1], moved[1:])
    difference = _largest_difference(ours, core())
    report.add(f"{segments} segments", timings, {"EfficientPS": {"largest_difference": difference}})
    seconds = {name: timing.seconds for name, timing in timings.items()}
    report.bars += [
        Bar(
            "times faster than cityscapesscripts",
            seconds["cityscapesscripts"] / seconds["EfficientPS"],
            ">=",
            OFFICIAL_SPEEDUP,
        ),
        Bar(
            "times faster than torchmetrics",
            seconds["torchmetrics"] / seconds["EfficientPS"],
            ">=",
            TORCHMETRICS_SPEEDUP,
        ),
        Bar("largest difference from cityscapesscripts", difference, "<=", AGREEMENT),
    ]
    return report


class _Decoded:
    """Stands for an opened image file; NumPy reads its ids without decoding and without a copy."""

    def __init__(self, ids: npt.NDArray[np.uint32]) -> None:
        self._ids = ids

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.uint32]:
        return self._ids


def official_core(prediction: PanopticSegmentation, target: PanopticSegmentation) -> Callable[[], Any]:
    """Return a call of cityscapesscripts' ``pq_compute_single_core`` on two maps, without reading files.

    The function opens PNG files and converts colours to ids. Here opening a file returns decoded ids and the conversion
    does nothing, so only the function's own matching is timed.
    """
    maps = {
        name: _Decoded(side.segment_ids.numpy().astype(np.uint32))
        for name, side in (("target", target), ("prediction", prediction))
    }
    annotations = [
        {
            "image_id": "image",
            "file_name": name,
            "segments_info": [
                {"id": segment.id, "category_id": segment.train_id, "iscrowd": int(segment.is_crowd), "area": area}
                for segment, area in zip(side.segments, _areas(side), strict=True)
            ],
        }
        for name, side in (("target", target), ("prediction", prediction))
    ]
    categories = {train_id: {"id": train_id, "isthing": int(train_id >= NUM_STUFF)} for train_id in range(NUM_CLASSES)}
    opened = SimpleNamespace(open=maps.__getitem__)

    def count() -> Any:
        with (
            mock.patch.object(official, "Image", opened),
            mock.patch.object(official, "rgb2id", lambda ids: ids),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            return official.pq_compute_single_core(0, [annotations], "", "", categories)

    return count


def torchmetrics_update(prediction: PanopticSegmentation, target: PanopticSegmentation) -> Callable[[], None]:
    """Return a call of torchmetrics' ``PanopticQuality.update`` on two maps; void is an unknown class for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = TorchmetricsPanopticQuality(
            things=set(range(NUM_STUFF, NUM_CLASSES)), stuffs=set(range(NUM_STUFF)), allow_unknown_preds_category=True
        )
    pairs = [_class_and_instance(side)[None] for side in (prediction, target)]
    return lambda: metric.update(*pairs)


def _class_and_instance(side: PanopticSegmentation) -> torch.Tensor:
    """Return a map in the format of torchmetrics: class and id of each pixel, int64 ``[h, w, 2]``."""
    largest = max(segment.id for segment in side.segments)
    classes = torch.full((largest + 1,), NUM_CLASSES)
    for segment in side.segments:
        classes[segment.id] = segment.train_id
    ids = side.segment_ids.long()
    return torch.stack([classes[ids], ids], dim=-1)


def _areas(side: PanopticSegmentation) -> Sequence[int]:
    return [int((side.segment_ids == segment.id).sum()) for segment in side.segments]


def _largest_difference(ours: PanopticQuality, theirs: Any) -> float:
    """Return the largest difference over all counts and classes."""
    return max(
        abs(float(getattr(ours, mine)[train_id]) - float(getattr(theirs[train_id], their)))
        for train_id in range(NUM_CLASSES)
        for mine, their in (("iou_sum", "iou"), ("tp", "tp"), ("fp", "fp"), ("fn", "fn"))
    )
