"""Average precision of the boxes of a detector of things and stuff, as COCO counts it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from efficientps.metrics.coco_ap import CocoAP, annotation
from efficientps.metrics.run_length import encode_segments
from efficientps.structures import BoxPredictions, PanopticSegmentation


class BoxAP(CocoAP):
    """Average precision of predicted boxes against those around the segments of panoptic maps.

    Every class counts; a class of stuff is one object of an image.

    Args:
        num_classes: number of classes, stuff and things together.
    """

    def __init__(self, *, num_classes: int) -> None:
        """Start without any box."""
        super().__init__(num_classes=num_classes, iou_type="bbox")

    def update(self, predictions: Sequence[BoxPredictions], targets: Sequence[PanopticSegmentation]) -> None:
        """Note the boxes of each image.

        Args:
            predictions: boxes in pixels of the target's image; ``BoxPredictions.resize`` brings them there.
            targets: the true panoptic maps, best in the host's memory: they are encoded there.

        Raises:
            ValueError: if there are not as many predictions as targets, or a train_id is out of range.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"There are {len(predictions)} predictions for {len(targets)} targets.")
        for prediction, target in zip(predictions, targets, strict=True):
            height, width = target.segment_ids.shape
            masks = encode_segments(target.segment_ids.cpu().numpy())
            annotations = [
                annotation(segment.train_id, masks[segment.id], is_crowd=segment.is_crowd)
                for segment in target.segments
            ]
            detections = []
            # One transfer for all; doubles hold every float and every class.
            columns = (prediction.boxes, prediction.scores[:, None], prediction.train_ids[:, None])
            for x0, y0, x1, y1, score, class_id in torch.cat([column.double() for column in columns], dim=1).tolist():
                train_id = int(class_id)
                if not 0 <= train_id < self.num_classes:
                    raise ValueError(f"A box has the train_id {train_id}; it must be in 0..{self.num_classes - 1}.")
                extent = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
                detections.append({"category_id": train_id, "score": score, **extent})
            self.record((height, width), annotations, detections)
