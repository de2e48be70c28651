"""Mean intersection over union (mIoU) of semantic maps, by the rules of Cityscapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from efficientps.metrics.joint_areas import JointRuns, joint_runs
from efficientps.structures import IGNORE_INDEX, VOID, PanopticSegmentation


class SemanticIoUResult(NamedTuple):
    """IoU of the semantic maps, in [0, 1].

    Attributes:
        mean: over the classes that occur in the target or the prediction; 0.0 if none does.
        per_class: ``[C]`` by train_id; NaN for a class that occurs in neither.
    """

    mean: float
    per_class: npt.NDArray[np.float64]


class SemanticIoU(Metric):
    """IoU per class and mIoU, from a confusion matrix over the pixels of all images of all ranks.

    Pixels whose true class is void are excluded. A pixel predicted as no class (``IGNORE_INDEX``) is a false negative
    of its true class.

    Args:
        num_classes: number of classes C, stuff and things together.

    >>> from efficientps.structures import Segment
    >>> metric = SemanticIoU(num_classes=2)
    >>> target = PanopticSegmentation(torch.tensor([[5, 5, 6, 0]]).int(), [Segment(5, 0, False), Segment(6, 1, True)])
    >>> metric.update([torch.tensor([[0, 1, 1, 1]], dtype=torch.uint8)], [target])
    >>> metric.compute()
    SemanticIoUResult(mean=0.5, per_class=array([0.5, 0.5]))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor

    def __init__(self, *, num_classes: int) -> None:
        """Create the metric with an empty confusion matrix."""
        super().__init__()
        self.num_classes = num_classes
        # Row: true class; column: predicted class, the last one for pixels of no class.
        empty = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)
        self.add_state("confusion", empty, dist_reduce_fx="sum")

    def update(
        self,
        predictions: Sequence[Tensor],
        targets: Sequence[PanopticSegmentation],
        runs: Sequence[JointRuns | None] | None = None,
    ) -> None:
        """Count the pixels of each image.

        Args:
            predictions: integer ``[h, w]`` each, train_id of every pixel.
            targets: the true maps, of the sizes of the predictions; the pixels of every segment, also of a crowd,
                belong to its class.
            runs: ``joint_runs`` of each target's and its prediction's map, if the caller has them.

        Raises:
            ValueError: if the numbers or sizes of predictions and targets differ, or a train_id is out of range.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"There are {len(predictions)} predictions for {len(targets)} targets.")
        known = runs or [None] * len(targets)
        for prediction, target, pair in zip(predictions, targets, known, strict=True):
            self.confusion += self._confusion(prediction, target, pair).to(self.confusion.device, non_blocking=True)

    def _confusion(self, prediction: Tensor, target: PanopticSegmentation, runs: JointRuns | None) -> Tensor:
        """Return the confusion matrix of one image: the segments' intersections with the predicted classes, summed."""
        if prediction.shape != target.segment_ids.shape:
            raise ValueError(
                f"The prediction has the size {tuple(prediction.shape)} and the target "
                f"{tuple(target.segment_ids.shape)}; resize the prediction to the target's size."
            )
        train_ids = torch.tensor([segment.train_id for segment in target.segments], dtype=torch.int64)
        if ((train_ids < 0) | (train_ids >= self.num_classes)).any():
            raise ValueError(f"A target has train ids {train_ids.tolist()}; they must be in 0..{self.num_classes - 1}.")
        columns = [*range(self.num_classes), IGNORE_INDEX]
        rows = [VOID, *(segment.id for segment in target.segments)]
        if runs is None:
            (runs,) = joint_runs(target.segment_ids, prediction)
        areas = runs.areas(rows, columns)
        if areas[-1].any():
            raise ValueError("The map of a target has pixels of a segment that is not in its list of segments.")
        if areas[:, -1].any():
            wrong = sorted(set(torch.unique(prediction).tolist()) - set(columns))
            raise ValueError(f"The prediction has a pixel of class {wrong[0]}; classes are 0..{self.num_classes - 1}.")
        return torch.zeros(self.confusion.shape, dtype=torch.int64).index_add_(0, train_ids, areas[1:-1, :-1])

    def compute(self) -> SemanticIoUResult:
        """Return the IoU of every class and the mIoU over all images since the last ``reset``, of all ranks."""
        confusion = self.confusion.cpu().numpy()
        intersection = confusion.diagonal()
        union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - intersection
        occurs = union > 0
        per_class = np.full(self.num_classes, np.nan)
        per_class[occurs] = intersection[occurs] / union[occurs]
        return SemanticIoUResult(float(per_class[occurs].mean()) if occurs.any() else 0.0, per_class)
