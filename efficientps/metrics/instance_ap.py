"""Average precision of the instances' masks (AP), as COCO counts it, from run-length codes alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as mask_api
from torch import Tensor
from torchmetrics import Metric

from efficientps.metrics.run_length import RunLengths, encode_segments, encode_window
from efficientps.structures import InstancePredictions, PanopticSegmentation

_logger = logging.getLogger(__name__)


class InstanceAPResult(NamedTuple):
    """Average precision of the masks, in [0, 1].

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55 ... 0.95 and over the classes with a true instance; 0.0 without any.
        ap50: the same at the threshold 0.50 alone.
        per_class: ``[num_things]`` by thing_id, mean over the thresholds; NaN for a class with no true instance.
    """

    ap: float
    ap50: float
    per_class: npt.NDArray[np.float64]


class InstanceAP(Metric):
    """Average precision of predicted instances against the things of panoptic maps, by faster-coco-eval.

    What an image leaves behind is one line of JSON with its masks' run-length codes: a few hundred bytes per
    instance. The lines are the state, as bytes, so that torchmetrics gathers them from all ranks.

    Crowd regions are COCO's: detections on them are ignored. COCO counts the 100 highest scores per image and class.

    Args:
        num_stuff: number of stuff classes, whose train ids precede those of things.
        num_things: number of thing classes; ``thing_id`` 0 .. num_things - 1.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    records: list[Tensor]

    def __init__(self, *, num_stuff: int, num_things: int) -> None:
        """See the class."""
        super().__init__()
        self.num_stuff = num_stuff
        self.num_things = num_things
        self.add_state("records", default=[], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[InstancePredictions], targets: Sequence[PanopticSegmentation]) -> None:
        """Encode the instances of each image, rendered one by one inside their boxes at the target's size.

        Args:
            predictions: instances in pixels of the target's image; ``InstancePredictions.resize`` brings them there.
            targets: the true panoptic maps.

        Raises:
            ValueError: if there are not as many predictions as targets, or a thing_id is out of range.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"There are {len(predictions)} predictions for {len(targets)} targets.")
        for prediction, target in zip(predictions, targets, strict=True):
            height, width = target.segment_ids.shape
            detections = _encode_predictions(prediction, (height, width), self.num_things)
            annotations = _encode_targets(target, self.num_stuff)
            line = json.dumps({"size": [height, width], "targets": annotations, "predictions": detections}) + "\n"
            self.records.append(torch.frombuffer(bytearray(line.encode()), dtype=torch.uint8).to(self.device))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the records of all ranks; a rank that has seen no image takes part with no bytes.

        Left to torchmetrics, such a rank would send a float where the others send bytes.
        """
        if not self.records:
            self.records.append(torch.zeros(0, dtype=torch.uint8, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> InstanceAPResult:
        """Return the average precision over all images shown so far."""
        records = self.records if isinstance(self.records, list) else [self.records]
        text = b"".join(record.cpu().numpy().tobytes() for record in records)
        precision = _precision([json.loads(line) for line in text.splitlines()], self.num_things)
        per_threshold = np.full((len(precision), self.num_things), np.nan)  # a class without a true instance stays NaN
        occurs = (precision >= 0).all(axis=(0, 1))
        per_threshold[:, occurs] = precision[:, :, occurs].mean(axis=1)
        ap, ap50 = (float(per_threshold[rows, occurs].mean()) if occurs.any() else 0.0 for rows in (slice(None), 0))
        return InstanceAPResult(ap, ap50, per_threshold.mean(axis=0))


def _encode_predictions(
    predictions: InstancePredictions, image_size: tuple[int, int], num_things: int
) -> list[dict[str, Any]]:
    """Encode the predicted instances of an image, one after the other; those that leave no pixel are left out."""
    detections: list[dict[str, Any]] = []
    labels, scores = predictions.labels.tolist(), predictions.scores.tolist()
    for index, window in enumerate(predictions.windows(image_size)):
        if not 0 <= labels[index] < num_things:
            raise ValueError(f"An instance has the thing_id {labels[index]}; it must be in 0..{num_things - 1}.")
        mask = (predictions.render(index, window) > 0).cpu().numpy()
        if mask.any():
            encoded = encode_window(mask, window, image_size)
            detections.append(_annotation(labels[index], encoded) | {"score": scores[index]})
    return detections


def _encode_targets(target: PanopticSegmentation, num_stuff: int) -> list[dict[str, Any]]:
    """Encode the things of a true panoptic map, crowd regions included."""
    masks = encode_segments(target.segment_ids.cpu().numpy())
    return [
        _annotation(segment.train_id - num_stuff, masks[segment.id], is_crowd=segment.is_crowd)
        for segment in target.segments
        if segment.is_thing
    ]


def _annotation(thing_id: int, mask: RunLengths, *, is_crowd: bool = False) -> dict[str, Any]:
    """Describe an instance as COCO does."""
    area, box = int(mask_api.area(mask)), mask_api.toBbox(mask).tolist()
    return {"category_id": thing_id, "iscrowd": int(is_crowd), "segmentation": mask, "area": area, "bbox": box}


def _precision(records: Sequence[dict[str, Any]], num_things: int) -> npt.NDArray[np.float64]:
    """Return COCO's precision ``[10 IoU thresholds, 101 recalls, num_things]``, -1 for classes with no instance."""
    if not any(record["targets"] for record in records):
        return np.full((10, 101, num_things), -1.0)
    truth, predictions = (_coco(records, key, num_things) for key in ("targets", "predictions"))
    evaluation = COCOeval_faster(truth, predictions, "segm", print_function=_logger.debug)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [100]
    evaluation.evaluate()
    evaluation.accumulate()
    precision: npt.NDArray[np.float64] = np.asarray(evaluation.eval["precision"])[:, :, :, 0, 0]
    return precision


def _coco(records: Sequence[dict[str, Any]], key: str, num_things: int) -> Any:
    """Return the annotations under a key of all records as COCO's index of a data set."""
    annotations = [item | {"image_id": image} for image, record in enumerate(records) for item in record[key]]
    images = [
        {"id": image, "height": record["size"][0], "width": record["size"][1]} for image, record in enumerate(records)
    ]
    return COCO(
        {
            "images": images,
            "categories": [{"id": thing_id, "name": str(thing_id)} for thing_id in range(num_things)],
            # Ids begin at 1: the evaluation takes 0 for "not matched".
            "annotations": [item | {"id": number} for number, item in enumerate(annotations, start=1)],
        }
    )
