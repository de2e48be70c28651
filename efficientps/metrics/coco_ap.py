"""COCO's average precision, computed from one record (a line of JSON) per image."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as mask_api
from torch import Tensor
from torchmetrics import Metric

from efficientps.structures.run_length import RunLengths

_logger = logging.getLogger(__name__)


class AveragePrecision(NamedTuple):
    """Average precision, in [0, 1].

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55 ... 0.95 and over the classes with a true object; 0.0 if there are none.
        ap50: mean over the classes with a true object at IoU threshold 0.50; 0.0 if there are none.
        per_class: ``[C]``, mean over the thresholds; NaN for a class with no true object.
        num_images: number of images.
    """

    ap: float
    ap50: float
    per_class: npt.NDArray[np.float64]
    num_images: int


class CocoAP(Metric):
    """Base of the average precision of masks and of boxes.

    The state holds one line of JSON per image with boxes and run-length encoded masks, a few hundred bytes per object.
    The lines are stored as byte tensors, so that torchmetrics gathers them from all ranks; until then they stay in CPU
    memory.

    Crowd regions are treated as in COCO: detections on them are ignored. The 100 highest scores per image and class
    count.

    Args:
        num_classes: number of classes C, ids 0 .. C - 1.
        iou_type: ``segm`` compares masks, ``bbox`` compares boxes.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    records: list[Tensor]

    def __init__(self, *, num_classes: int, iou_type: Literal["segm", "bbox"]) -> None:
        """Create the metric without records."""
        super().__init__()
        self.num_classes = num_classes
        self.iou_type = iou_type
        self.add_state("records", default=[], dist_reduce_fx="cat")

    def record(self, size: tuple[int, int], targets: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> None:
        """Add the record of one image.

        Args:
            size: ``(h, w)`` of the image.
            targets: true objects, as ``annotation`` describes them.
            predictions: predicted objects, as ``annotation`` describes them, with a ``score``.
        """
        line = json.dumps({"size": list(size), "targets": targets, "predictions": predictions}) + "\n"
        self.records.append(torch.frombuffer(bytearray(line.encode()), dtype=torch.uint8))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the records of all ranks; a rank without images contributes an empty byte tensor.

        Without this override, torchmetrics would send a float tensor from such a rank and bytes from the others.
        """
        records = [record.cpu() for record in self.records]  # moving the metric to a device has moved its records
        self.records = [torch.cat([torch.zeros(0, dtype=torch.uint8), *records]).to(self.device)]
        super().sync(*args, **kwargs)

    def compute(self) -> AveragePrecision:
        """Return the average precision over all images since the last ``reset``, of all ranks."""
        records = self.records if isinstance(self.records, list) else [self.records]
        lines = b"".join(record.cpu().numpy().tobytes() for record in records).splitlines()
        precision = _precision([json.loads(line) for line in lines], self.num_classes, self.iou_type)
        per_threshold = np.full((len(precision), self.num_classes), np.nan)  # a class without a true object stays NaN
        occurs = (precision >= 0).all(axis=(0, 1))
        per_threshold[:, occurs] = precision[:, :, occurs].mean(axis=1)
        ap, ap50 = (float(per_threshold[rows, occurs].mean()) if occurs.any() else 0.0 for rows in (slice(None), 0))
        return AveragePrecision(ap, ap50, per_threshold.mean(axis=0), len(lines))


def annotation(class_id: int, mask: RunLengths, *, is_crowd: bool = False) -> dict[str, Any]:
    """Return COCO's annotation of an object: its class, mask, area and box."""
    area, box = int(mask_api.area(mask)), mask_api.toBbox(mask).tolist()
    return {"category_id": class_id, "iscrowd": int(is_crowd), "segmentation": mask, "area": area, "bbox": box}


def _precision(records: Sequence[dict[str, Any]], num_classes: int, iou_type: str) -> npt.NDArray[np.float64]:
    """Return COCO's precision ``[10 IoU thresholds, 101 recalls, num_classes]``, -1 for classes with no object."""
    if not any(record["targets"] for record in records):
        return np.full((10, 101, num_classes), -1.0)
    truth, predictions = (_coco(records, key, num_classes) for key in ("targets", "predictions"))
    evaluation = COCOeval_faster(truth, predictions, iou_type, print_function=_logger.debug)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [100]
    evaluation.evaluate()
    evaluation.accumulate()
    precision: npt.NDArray[np.float64] = np.asarray(evaluation.eval["precision"])[:, :, :, 0, 0]
    return precision


def _coco(records: Sequence[dict[str, Any]], key: str, num_classes: int) -> Any:
    """Return COCO's data set index over the objects under ``key`` (``targets`` or ``predictions``) of all records."""
    annotations = [item | {"image_id": image} for image, record in enumerate(records) for item in record[key]]
    images = [
        {"id": image, "height": record["size"][0], "width": record["size"][1]} for image, record in enumerate(records)
    ]
    return COCO(
        {
            "images": images,
            "categories": [{"id": class_id, "name": str(class_id)} for class_id in range(num_classes)],
            # Ids begin at 1, because COCO's evaluation uses 0 for "not matched".
            "annotations": [item | {"id": number} for number, item in enumerate(annotations, start=1)],
        }
    )
