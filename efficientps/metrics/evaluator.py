"""The metrics of an evaluation: panoptic quality, mean IoU, mask AP and box AP, updated image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from efficientps.metrics.box_ap import BoxAP
from efficientps.metrics.coco_ap import AveragePrecision
from efficientps.metrics.instance_ap import InstanceAP
from efficientps.metrics.joint_areas import joint_runs
from efficientps.metrics.panoptic_matching import PanopticCounts, count_matches
from efficientps.metrics.panoptic_quality import PanopticQuality
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.metrics.semantic_iou import SemanticIoU, SemanticIoUResult
from efficientps.structures import PanopticSegmentation, Prediction
from efficientps.structures.categories import Categories

FIGURES = (
    *(f"{name}{suffix}" for suffix in ("", "_things", "_stuff") for name in ("PQ", "SQ", "RQ")),
    *("mIoU", "AP", "AP50", "box_AP", "box_AP50"),
)
"""Names of the values in the log; those of boxes are there where a network predicts boxes. More is better for each."""


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation; every value is in [0, 1] and equal on all ranks.

    Attributes:
        panoptic: panoptic quality of the fused maps.
        semantic: IoU of the semantic head's maps.
        instance: AP of the instance head's masks, before fusion.
        names: names of the classes, by train_id.
        box: AP of the boxes of things and stuff; None if the network predicts no boxes.
    """

    panoptic: PanopticQualityResult
    semantic: SemanticIoUResult
    instance: AveragePrecision
    names: list[str]
    box: AveragePrecision | None = None

    def figures(self) -> dict[str, float]:
        """Return the values for the log, such as ``PQ``, ``SQ_things`` and ``mIoU``, by name."""
        averages = (("", self.panoptic.all), ("_things", self.panoptic.things), ("_stuff", self.panoptic.stuff))
        figures = {
            f"{name}{suffix}": float(getattr(average, name.lower()))
            for suffix, average in averages
            for name in ("PQ", "SQ", "RQ")
        }
        return figures | self._others()

    def _others(self) -> dict[str, float]:
        """Return mIoU and AP, and the AP of boxes if there are boxes."""
        figures = {"mIoU": self.semantic.mean, "AP": self.instance.ap, "AP50": self.instance.ap50}
        if self.box is not None:
            figures |= {"box_AP": self.box.ap, "box_AP50": self.box.ap50}
        return figures

    def as_dict(self) -> dict[str, Any]:
        """Return all values, overall and per class, in plain types for JSON."""
        ious, aps = self.semantic.per_class, self.instance.per_class
        things = self.names[len(self.names) - len(aps) :]
        figures: dict[str, Any] = {
            "panoptic_quality": self.panoptic.as_dict(self.names),
            "mIoU": self.semantic.mean,
            "IoU": _by_name(self.names, ious),
            "AP": self.instance.ap,
            "AP50": self.instance.ap50,
            "AP_per_class": _by_name(things, aps),
        }
        if self.box is not None:
            figures |= {"box_AP": self.box.ap, "box_AP50": self.box.ap50}
            figures |= {"box_AP_per_class": _by_name(self.names, self.box.per_class)}
        return figures

    def table(self, *, per_class: bool = False) -> str:
        """Return a text table of the values, in percent."""
        last_line = "   ".join(f"{name} {100 * value:.1f}" for name, value in self._others().items())
        return f"{self.panoptic.table(self.names if per_class else None)}\n{last_line}"


def _by_name(names: Sequence[str], values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """Map each name to its value; NaN becomes None, because JSON has no NaN."""
    return {name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}


class Evaluator(nn.Module):
    """Updates every metric of an evaluation with each image; no image is stored.

    Args:
        categories: the classes of the data.
    """

    def __init__(self, categories: Categories) -> None:
        """Create one metric for each figure."""
        super().__init__()
        self.names = [category.name for category in categories]
        self.panoptic = PanopticQuality(num_stuff=categories.num_stuff, num_things=categories.num_things)
        self.semantic = SemanticIoU(num_classes=len(categories))
        self.instance = InstanceAP(num_stuff=categories.num_stuff, num_things=categories.num_things)
        self.box = BoxAP(num_classes=len(categories))

    def update(self, prediction: Prediction, target: PanopticSegmentation) -> PanopticCounts:
        """Update all metrics with one image; the prediction is resized to the size of the ground truth.

        Keep the true map in pinned CPU memory, as the data modules do: average precision and overlays read it there.
        For panoptic quality and mIoU, it is copied to the device of the prediction without a wait. On the device, the
        runs of pixels over which the true, the panoptic and the semantic map are all constant are found once, and only
        their ids and lengths are copied to the CPU. The host waits twice for both metrics.

        Returns:
            The counts that this image adds to panoptic quality.
        """
        height, width = target.segment_ids.shape
        prediction = prediction.resize((height, width))
        panoptic, semantic = joint_runs(target.segment_ids, prediction.panoptic.segment_ids, prediction.semantic)
        counts = count_matches(prediction.panoptic, target, num_classes=len(self.names), runs=panoptic)
        self.panoptic.update([prediction.panoptic], [target], [counts])
        self.semantic.update([prediction.semantic], [target], [semantic])
        on_host = PanopticSegmentation(target.segment_ids.cpu(), target.segments)
        self.instance.update([prediction.instances], [on_host])
        boxes = [] if prediction.boxes is None else [prediction.boxes]
        self.box.update(boxes, [on_host] * len(boxes))
        return counts

    def compute(self) -> Evaluation:
        """Return the metrics over all images since the last ``reset``, of all ranks."""
        box = self.box.compute()  # on every rank, because the metric synchronises all ranks
        return Evaluation(
            panoptic=self.panoptic.compute(),
            semantic=self.semantic.compute(),
            instance=self.instance.compute(),
            names=self.names,
            box=box if box.num_images else None,
        )

    def reset(self) -> None:
        """Reset all metrics."""
        for metric in (self.panoptic, self.semantic, self.instance, self.box):
            metric.reset()
