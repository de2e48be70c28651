"""Panoptic quality (Kirillov et al., CVPR 2019, https://arxiv.org/abs/1801.00868), by the rules of panopticapi."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from efficientps.metrics.panoptic_matching import PanopticCounts, count_matches
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.structures import PanopticSegmentation

__all__ = ["PanopticQuality", "PanopticQualityResult"]


class PanopticQuality(Metric):
    """Panoptic quality over all images of all ranks.

    The state is four numbers per class, in float64 and int64 independent of the precision of the training.

    Args:
        num_stuff: number of stuff classes; their train ids are 0 .. num_stuff - 1.
        num_things: number of thing classes; their train ids follow.

    >>> from efficientps.structures import Segment
    >>> metric = PanopticQuality(num_stuff=1, num_things=1)
    >>> car = Segment(7, train_id=1, is_thing=True)
    >>> image = PanopticSegmentation(torch.tensor([[7, 7, 0]]).int(), [car])
    >>> metric.update([image], [image])
    >>> metric.compute().things
    PanopticAverage(pq=1.0, sq=1.0, rq=1.0, n=1)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    iou_sum: Tensor
    tp: Tensor
    fp: Tensor
    fn: Tensor

    def __init__(self, *, num_stuff: int, num_things: int) -> None:
        """Create the metric with counts of zero."""
        super().__init__()
        if num_stuff < 0 or num_things < 0 or num_stuff + num_things == 0:
            raise ValueError(f"There must be a class to count: num_stuff is {num_stuff} and num_things {num_things}.")
        self.num_stuff = num_stuff
        self.num_things = num_things
        num_classes = num_stuff + num_things
        self.add_state("iou_sum", torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("tp", "fp", "fn"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        predictions: Sequence[PanopticSegmentation],
        targets: Sequence[PanopticSegmentation],
        counts: Sequence[PanopticCounts] | None = None,
    ) -> None:
        """Count the matches of each prediction and its target, both of one size ``[h, w]`` and on any device.

        Args:
            predictions: the predicted maps.
            targets: the true maps.
            counts: ``count_matches`` of each pair, if the caller has them.

        Raises:
            ValueError: if there are not as many predictions as targets, or for the reasons of ``count_matches``.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"There are {len(predictions)} predictions for {len(targets)} targets.")
        if counts is None:
            num_classes = self.num_stuff + self.num_things
            pairs = zip(predictions, targets, strict=True)
            counts = [count_matches(prediction, target, num_classes=num_classes) for prediction, target in pairs]
        for image in counts:
            # One transfer, for which the host does not wait; the bits of the float64 values are sent as int64.
            packed = torch.stack([image.iou_sum.view(torch.int64), image.tp, image.fp, image.fn])
            iou_sum, tp, fp, fn = packed.to(self.tp.device, non_blocking=True)
            self.iou_sum += iou_sum.view(torch.float64)
            self.tp += tp
            self.fp += fp
            self.fn += fn

    def compute(self) -> PanopticQualityResult:
        """Return the panoptic quality over all images since the last ``reset``, of all ranks."""
        counts = (state.cpu().numpy() for state in (self.iou_sum, self.tp, self.fp, self.fn))
        return PanopticQualityResult.from_counts(*counts, num_stuff=self.num_stuff)
