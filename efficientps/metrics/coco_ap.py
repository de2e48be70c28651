"""Average precision as COCO counts it, from what images leave behind: a line of JSON each."""

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

from efficientps.metrics.run_length import RunLengths

_logger = logging.getLogger(__name__)


class AveragePrecision(NamedTuple):
    """Average precision, in [0, 1].

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55 ... 0.95 and over the classes with a true object; 0.0 without any.
        ap50: the same at the threshold 0.50 alone.
        per_class: ``[C]``, mean over the thresholds; NaN for a class with no true object.
        num_images: that were counted.
    """

    ap: float
    ap50: float
    per_class: npt.NDArray[np.float64]
    num_images: int


class CocoAP(Metric):
    """The part of an average precision that is the same for masks and boxes.

    What an image leaves behind is one line of JSON with its objects' boxes and masks' run-length codes: a few hundred
    bytes per object. The lines are the state, as bytes, so that torchmetrics gathers them from all ranks. They stay in
    the host's memory until they are gathered.

    Crowd regions are COCO's: detections on them are ignored. COCO counts the 100 highest scores per image and class.

    Args:
        num_classes: number of classes C, ids 0 .. C - 1.
        iou_type: what is compared, masks (``segm``) or boxes (``bbox``).
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    records: list[Tensor]

    def __init__(self, *, num_classes: int, iou_type: Literal["segm", "bbox"]) -> None:
        """Start without any image."""
        super().__init__()
        self.num_classes = num_classes
        self.iou_type = iou_type
        self.add_state("records", default=[], dist_reduce_fx="cat")

    def record(self, size: tuple[int, int], targets: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> None:
        """Keep what COCO's evaluation needs of an image of size ``(h, w)``."""
        line = json.dumps({"size": list(size), "targets": targets, "predictions": predictions}) + "\n"
        self.records.append(torch.frombuffer(bytearray(line.encode()), dtype=torch.uint8))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the records of all ranks; a rank that has seen no image takes part with no bytes.

        Left to torchmetrics, such a rank would send a float where the others send bytes.
        """
        records = [record.cpu() for record in self.records]  # a metric that is moved takes its records along
        self.records = [torch.cat([torch.zeros(0, dtype=torch.uint8), *records]).to(self.device)]
        super().sync(*args, **kwargs)

    def compute(self) -> AveragePrecision:
        """Return the average precision over all images shown so far."""
        records = self.records if isinstance(self.records, list) else [self.records]
        lines = b"".join(record.cpu().numpy().tobytes() for record in records).splitlines()
        precision = _precision([json.loads(line) for line in lines], self.num_classes, self.iou_type)
        per_threshold = np.full((len(precision), self.num_classes), np.nan)  # a class without a true object stays NaN
        occurs = (precision >= 0).all(axis=(0, 1))
        per_threshold[:, occurs] = precision[:, :, occurs].mean(axis=1)
        ap, ap50 = (float(per_threshold[rows, occurs].mean()) if occurs.any() else 0.0 for rows in (slice(None), 0))
        return AveragePrecision(ap, ap50, per_threshold.mean(axis=0), len(lines))


def annotation(class_id: int, mask: RunLengths, *, is_crowd: bool = False) -> dict[str, Any]:
    """Describe a mask as COCO does."""
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
    """Return the annotations under a key of all records as COCO's index of a data set."""
    annotations = [item | {"image_id": image} for image, record in enumerate(records) for item in record[key]]
    images = [
        {"id": image, "height": record["size"][0], "width": record["size"][1]} for image, record in enumerate(records)
    ]
    return COCO(
        {
            "images": images,
            "categories": [{"id": class_id, "name": str(class_id)} for class_id in range(num_classes)],
            # Ids begin at 1: the evaluation takes 0 for "not matched".
            "annotations": [item | {"id": number} for number, item in enumerate(annotations, start=1)],
        }
    )
