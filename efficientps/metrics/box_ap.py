"""Box average precision (COCO's AP) of a detector of things and stuff."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from efficientps.metrics.coco_ap import CocoAP, annotation
from efficientps.structures import BoxPredictions, PanopticSegmentation
from efficientps.structures.run_length import encode_segments


class BoxAP(CocoAP):
    """Average precision of predicted boxes; the true boxes surround the segments of the true panoptic maps.

    All classes count. A stuff segment counts as one object of its image.

    Args:
        num_classes: number of classes, stuff and things together.
    """

    def __init__(self, *, num_classes: int) -> None:
        """Create the metric without records."""
        super().__init__(num_classes=num_classes, iou_type="bbox")

    def update(self, predictions: Sequence[BoxPredictions], targets: Sequence[PanopticSegmentation]) -> None:
        """Record the boxes of each image.

        Args:
            predictions: boxes in pixels of the target; ``BoxPredictions.resize`` scales them.
            targets: the true panoptic maps; maps on the CPU need no transfer.

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
            # One transfer from the device; float64 holds every float32 and every train_id exactly.
            columns = (prediction.boxes, prediction.scores[:, None], prediction.train_ids[:, None])
            for x0, y0, x1, y1, score, class_id in torch.cat([column.double() for column in columns], dim=1).tolist():
                train_id = int(class_id)
                if not 0 <= train_id < self.num_classes:
                    raise ValueError(f"A box has the train_id {train_id}; it must be in 0..{self.num_classes - 1}.")
                extent = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
                detections.append({"category_id": train_id, "score": score, **extent})
            self.record((height, width), annotations, detections)
