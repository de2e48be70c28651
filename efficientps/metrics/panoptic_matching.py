"""Matching of predicted and true segments by the rules of panopticapi: the counts behind panoptic quality.

Panoptic quality: Kirillov et al., CVPR 2019, https://arxiv.org/abs/1801.00868. The rules of panopticapi and
cityscapesscripts are:

* a predicted and a true segment match if they have one class and their IoU is above 0.5; the predicted segment's
  pixels on void are excluded from the union;
* a crowd region matches nothing and is never a false negative; if an image has several crowd regions of one class, the
  last one in its list is used by the next rule;
* a predicted segment is not a false positive if more than half of it lies on void and on the crowd region of its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from efficientps.metrics.joint_areas import JointRuns, joint_runs
from efficientps.structures import VOID, PanopticSegmentation, Segment


class PanopticCounts(NamedTuple):
    """Counts of one or several images for panoptic quality, per class and indexed by train_id."""

    iou_sum: Tensor  # float64 [C], sum of the IoUs of the matched pairs
    tp: Tensor  # int64 [C], matched pairs
    fp: Tensor  # int64 [C], predicted segments without a match
    fn: Tensor  # int64 [C], true segments without a match


def count_matches(
    prediction: PanopticSegmentation,
    target: PanopticSegmentation,
    *,
    num_classes: int,
    runs: JointRuns | None = None,
) -> PanopticCounts:
    """Match the segments of one image and count, per class, the matches and the misses.

    The maps may be on any device; only their runs of pixels are copied to the CPU, where they are counted.

    Args:
        prediction: the predicted map of the image.
        target: the true map of the image, of the size of ``prediction``.
        num_classes: number of classes, stuff and things together.
        runs: ``joint_runs`` of the target's and the prediction's map, if the caller has them; otherwise computed here.

    Returns:
        The counts, on the CPU.

    Raises:
        ValueError: if the maps are of different sizes; an id is in a map and not in its list of segments, or the
            reverse; a list has an id twice or a train_id that is not in 0 .. num_classes - 1.

    The true map has 8 pixels of road and 4 of void; the predicted road covers 6 pixels of the true one and the void:

    >>> road = Segment(1, train_id=0, is_thing=False)
    >>> target = PanopticSegmentation(torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]]).int(), [road])
    >>> prediction = PanopticSegmentation(torch.tensor([[0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]).int(), [road])
    >>> count_matches(prediction, target, num_classes=1)  # IoU = 6 / (10 + 8 - 6 - 4)
    PanopticCounts(iou_sum=tensor([0.7500], dtype=torch.float64), tp=tensor([1]), fp=tensor([0]), fn=tensor([0]))
    """
    predicted, true = prediction.segments, target.segments
    _validate(predicted, "prediction", num_classes)
    _validate(true, "target", num_classes)
    if prediction.segment_ids.shape != target.segment_ids.shape:
        raise ValueError(
            f"The prediction has the size {tuple(prediction.segment_ids.shape)} and the target "
            f"{tuple(target.segment_ids.shape)}; resize the prediction to the target's size."
        )
    if runs is None:
        (runs,) = joint_runs(target.segment_ids, prediction.segment_ids)
    areas = runs.areas([VOID, *(segment.id for segment in true)], [VOID, *(segment.id for segment in predicted)])
    _check_complete(areas.sum(dim=1), target, "target")
    _check_complete(areas.sum(dim=0), prediction, "prediction")
    return _count(areas[:-1, :-1], predicted, true, num_classes)


def _count(areas: Tensor, predicted: Sequence[Segment], true: Sequence[Segment], num_classes: int) -> PanopticCounts:
    """Count the matches.

    Args:
        areas: int64 ``[1 + true segments, 1 + predicted segments]``, the intersection areas; void comes first.
        predicted: the predicted segments.
        true: the true segments.
        num_classes: number of classes.
    """
    true_class = torch.tensor([segment.train_id for segment in true], dtype=torch.int64)
    predicted_class = torch.tensor([segment.train_id for segment in predicted], dtype=torch.int64)
    is_crowd = torch.tensor([segment.is_crowd for segment in true], dtype=torch.bool)
    true_area, predicted_area = areas.sum(dim=1)[1:], areas.sum(dim=0)[1:]
    on_void, intersection = areas[0, 1:], areas[1:, 1:]

    union = true_area[:, None] + predicted_area - intersection - on_void
    same_class = true_class[:, None] == predicted_class
    matched = same_class & ~is_crowd[:, None] & (2 * intersection > union)

    crowd_of_class = {segment.train_id: row for row, segment in enumerate(true) if segment.is_crowd}
    counted_crowd = torch.zeros_like(is_crowd)
    counted_crowd[list(crowd_of_class.values())] = True
    on_crowd = torch.where(same_class & counted_crowd[:, None], intersection, 0).sum(dim=0)
    excused = 2 * (on_void + on_crowd) > predicted_area

    # IoU above one half makes matches unique: each row and each column holds at most one.
    rows, columns = matched.nonzero(as_tuple=True)
    iou = intersection[rows, columns].double() / union[rows, columns]
    return PanopticCounts(
        iou_sum=torch.zeros(num_classes, dtype=torch.float64).index_add_(0, true_class[rows], iou),
        tp=true_class[rows].bincount(minlength=num_classes),
        fp=predicted_class[~matched.any(dim=0) & ~excused].bincount(minlength=num_classes),
        fn=true_class[~matched.any(dim=1) & ~is_crowd].bincount(minlength=num_classes),
    )


def _validate(segments: Sequence[Segment], role: str, num_classes: int) -> None:
    """Raise an error if ids of segments are void or repeated, or a train_id is out of range."""
    seen: set[int] = set()
    for segment in segments:
        if segment.id == VOID or segment.id in seen:
            reason = "the id of void" if segment.id == VOID else "twice in the list"
            raise ValueError(f"The {role} has a segment with id {segment.id}, which is {reason}; give each its own id.")
        seen.add(segment.id)
        if not 0 <= segment.train_id < num_classes:
            raise ValueError(
                f"Segment {segment.id} of the {role} has train_id {segment.train_id}; it must be in "
                f"0..{num_classes - 1}."
            )


def _check_complete(areas: Tensor, panoptic: PanopticSegmentation, role: str) -> None:
    """Raise an error unless the ids in the map and in its list of segments are the same."""
    if areas[-1]:
        listed = {VOID, *(segment.id for segment in panoptic.segments)}
        unlisted = sorted(set(torch.unique(panoptic.segment_ids).tolist()) - listed)
        raise ValueError(f"The map of the {role} has pixels of segment {unlisted[0]}, which is not in its segments.")
    if not areas[1:-1].all():
        missing = panoptic.segments[int((areas[1:-1] == 0).nonzero()[0])].id
        raise ValueError(f"The {role} lists segment {missing}, of which its map has no pixel.")
