"""Mask average precision (COCO's AP) of instances, on run-length encoded masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from efficientps.metrics.coco_ap import CocoAP, annotation
from efficientps.structures import HostDetections, InstancePredictions, PanopticSegmentation, pixel_windows
from efficientps.structures.packed_windows import pack, render
from efficientps.structures.run_length import encode_segments, encode_window

_Mask: TypeAlias = tuple[int, tuple[int, int, int, int], npt.NDArray[np.bool_]]
"""Index of an instance, its window ``(x0, y0, x1, y1)``, and its mask inside the window."""


class InstanceAP(CocoAP):
    """Average precision of predicted instances; the true instances are the thing segments of the true panoptic maps.

    faster-coco-eval computes it from run-length encoded masks (``CocoAP``).

    Args:
        num_stuff: number of stuff classes, whose train ids precede those of things.
        num_things: number of thing classes; ``thing_id`` 0 .. num_things - 1.
    """

    def __init__(self, *, num_stuff: int, num_things: int) -> None:
        """Create the metric without records."""
        super().__init__(num_classes=num_things, iou_type="segm")
        self.num_stuff = num_stuff

    def update(self, predictions: Sequence[InstancePredictions], targets: Sequence[PanopticSegmentation]) -> None:
        """Encode the instances of each image; their masks are rendered inside their boxes at the target's size.

        A GPU renders all instances at once. The host waits twice per image, for the boxes and for the masks, and a
        third time if the target is on the GPU.

        Args:
            predictions: instances in pixels of the target; ``InstancePredictions.resize`` scales them.
            targets: the true panoptic maps, on any device.

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
    """Encode the predicted instances of an image; instances with an empty mask are left out."""
    found = predictions.on_host()
    labels, scores, windows = found.labels.tolist(), found.scores.tolist(), pixel_windows(found.boxes, image_size)
    for label in labels:
        if not 0 <= label < num_things:
            raise ValueError(f"An instance has the thing_id {label}; it must be in 0..{num_things - 1}.")
    # Rendering one by one is faster on a CPU, because it interpolates the two axes of a window one after the other.
    masks = _masks_at_once if predictions.mask_logits.is_cuda else _masks_one_by_one
    return [
        annotation(labels[index], encode_window(mask, (x0, y0, x1, y1), image_size)) | {"score": scores[index]}
        for index, (x0, y0, x1, y1), mask in masks(predictions, found, windows)
        if mask.any()
    ]


def _masks_one_by_one(predictions: InstancePredictions, found: HostDetections, windows: Tensor) -> Iterator[_Mask]:
    """Render one instance after the other."""
    for index, (x0, y0, x1, y1) in enumerate(windows.tolist()):
        yield index, (x0, y0, x1, y1), (predictions.render(index, (x0, y0, x1, y1)) > 0).cpu().numpy()


def _masks_at_once(predictions: InstancePredictions, found: HostDetections, windows: Tensor) -> Iterator[_Mask]:
    """Render all instances together; instances with an empty window are left out."""
    logits = predictions.mask_logits
    grid_size = (logits.shape[1], logits.shape[2])
    packed = pack(windows, found.mask_frames, torch.arange(len(windows)), grid_size)
    on_device, _ = packed.to(logits.device)
    for group, bounds in enumerate(packed.bounds.tolist()):
        mask = (render(logits, on_device, group).logits > 0).cpu().numpy()
        for index, (begin, end) in enumerate(zip(*bounds, strict=True)):
            if begin < end:
                x0, y0, x1, y1 = windows[index].tolist()
                yield index, (x0, y0, x1, y1), mask[begin:end].reshape(y1 - y0, x1 - x0)


def _encode_targets(target: PanopticSegmentation, num_stuff: int) -> list[dict[str, Any]]:
    """Encode the thing segments of a true panoptic map, including crowd regions."""
    masks = encode_segments(target.segment_ids.cpu().numpy())
    return [
        annotation(segment.train_id - num_stuff, masks[segment.id], is_crowd=segment.is_crowd)
        for segment in target.segments
        if segment.is_thing
    ]
