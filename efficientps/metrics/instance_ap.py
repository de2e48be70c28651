"""Average precision of the instances' masks (AP), as COCO counts it, from run-length codes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from efficientps.metrics.coco_ap import CocoAP, annotation
from efficientps.metrics.run_length import encode_segments, encode_window
from efficientps.structures import InstancePredictions, PanopticSegmentation


class InstanceAP(CocoAP):
    """Average precision of predicted instances against the things of panoptic maps, by faster-coco-eval.

    Masks are kept as run-length codes, see ``CocoAP``.

    Args:
        num_stuff: number of stuff classes, whose train ids precede those of things.
        num_things: number of thing classes; ``thing_id`` 0 .. num_things - 1.
    """

    def __init__(self, *, num_stuff: int, num_things: int) -> None:
        """See the class."""
        super().__init__(num_classes=num_things, iou_type="segm")
        self.num_stuff = num_stuff

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
            detections = _encode_predictions(prediction, (height, width), self.num_classes)
            annotations = _encode_targets(target, self.num_stuff)
            self.record((height, width), annotations, detections)


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
            detections.append(annotation(labels[index], encoded) | {"score": scores[index]})
    return detections


def _encode_targets(target: PanopticSegmentation, num_stuff: int) -> list[dict[str, Any]]:
    """Encode the things of a true panoptic map, crowd regions included."""
    masks = encode_segments(target.segment_ids.cpu().numpy())
    return [
        annotation(segment.train_id - num_stuff, masks[segment.id], is_crowd=segment.is_crowd)
        for segment in target.segments
        if segment.is_thing
    ]
