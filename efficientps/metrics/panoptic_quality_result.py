"""Panoptic, segmentation and recognition quality computed from counts, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size


class PanopticAverage(NamedTuple):
    """Panoptic, segmentation and recognition quality in [0, 1], averaged over the n classes that occur."""

    pq: float
    sq: float
    rq: float
    n: int


class PanopticQualityResult(NamedTuple):
    """Panoptic quality of a data set: counts and qualities of every class, and the three averages.

    All arrays are ``[C]`` and indexed by train_id. Qualities are in [0, 1]. A class that does not occur has quality 0
    and is excluded from the averages. An average over no classes is 0 with n = 0; panopticapi divides by zero there.
    """

    iou: npt.NDArray[np.float64]  # sum of the IoUs of the matches
    tp: npt.NDArray[np.int64]
    fp: npt.NDArray[np.int64]
    fn: npt.NDArray[np.int64]
    pq: npt.NDArray[np.float64]
    sq: npt.NDArray[np.float64]
    rq: npt.NDArray[np.float64]
    all: PanopticAverage
    things: PanopticAverage
    stuff: PanopticAverage

    @classmethod
    def from_counts(
        cls,
        iou: npt.NDArray[np.float64],
        tp: npt.NDArray[np.int64],
        fp: npt.NDArray[np.int64],
        fn: npt.NDArray[np.int64],
        *,
        num_stuff: int,
    ) -> PanopticQualityResult:
        """Compute the qualities from the counts ``[C]``; the first ``num_stuff`` classes are stuff.

        >>> result = PanopticQualityResult.from_counts(
        ...     np.array([1.5, 0.0]), np.array([2, 0]), np.array([1, 0]), np.array([1, 2]), num_stuff=1
        ... )
        >>> float(result.sq[0]), round(float(result.rq[0]), 3), float(result.pq[0])
        (0.75, 0.667, 0.5)
        >>> result.all.pq, result.things.pq, result.stuff.n
        (0.25, 0.0, 1)
        """
        size = tp + 0.5 * fp + 0.5 * fn
        pq, rq = iou / np.maximum(size, 0.5), tp / np.maximum(size, 0.5)
        sq = iou / np.maximum(tp, 1)

        def average(classes: slice) -> PanopticAverage:
            occurs = size[classes] > 0
            n = int(occurs.sum())
            mean_pq, mean_sq, mean_rq = (float(values[classes][occurs].sum()) / max(n, 1) for values in (pq, sq, rq))
            return PanopticAverage(mean_pq, mean_sq, mean_rq, n)

        averages = (average(slice(None)), average(slice(num_stuff, None)), average(slice(0, num_stuff)))
        return cls(iou, tp, fp, fn, pq, sq, rq, *averages)

    def table(self, names: Sequence[str] | None = None) -> str:
        """Return a text table of the averages, in percent; with ``names`` (by train_id), of the classes as well.

        >>> result = PanopticQualityResult.from_counts(
        ...     np.array([0.8, 0.0]), np.array([1, 0]), np.array([0, 1]), np.array([0, 3]), num_stuff=1
        ... )
        >>> print(result.table(["road", "car"]))
        Class      PQ     SQ     RQ     TP     FP     FN
        ------------------------------------------------
        road     80.0   80.0  100.0      1      0      0
        car       0.0    0.0    0.0      0      1      3
        ------------------------------------------------
                   PQ     SQ     RQ      N
        All      40.0   40.0   50.0      2
        Things    0.0    0.0    0.0      1
        Stuff    80.0   80.0  100.0      1
        """
        averages = {"All": self.all, "Things": self.things, "Stuff": self.stuff}
        width = max(map(cell_len, [*averages, *(names or ())]))  # a Chinese character takes two cells of a terminal

        def line(title: str, qualities: Sequence[float], counts: Sequence[int]) -> str:
            percentages = "".join(f"{100 * quality:7.1f}" for quality in qualities)
            return f"{set_cell_size(title, width)}{percentages}" + "".join(f"{count:7d}" for count in counts)

        def header(title: str, columns: str) -> str:
            return f"{title:{width}}" + "".join(f"{column:>7}" for column in columns.split())

        lines: list[str] = []
        if names is not None:
            rule = "-" * (width + 42)
            counted = zip(names, self.pq, self.sq, self.rq, self.tp, self.fp, self.fn, strict=True)
            classes = [line(name, [pq, sq, rq], [tp, fp, fn]) for name, pq, sq, rq, tp, fp, fn in counted]
            lines = [header("Class", "PQ SQ RQ TP FP FN"), rule, *classes, rule]
        lines.append(header("", "PQ SQ RQ N"))
        lines += [line(title, average[:3], [average.n]) for title, average in averages.items()]
        return "\n".join(lines)

    def as_dict(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Return all values in plain types, in the layout of the result file of cityscapesscripts.

        Args:
            names: names of the classes by train_id, for the keys of ``per_class``; by default the train ids.
        """
        keys = [str(train_id) for train_id in range(len(self.tp))] if names is None else names
        per_class = {
            key: {
                **{name: float(getattr(self, name)[train_id]) for name in ("pq", "sq", "rq", "iou")},
                **{name: int(getattr(self, name)[train_id]) for name in ("tp", "fp", "fn")},
            }
            for train_id, key in enumerate(keys)
        }
        averages = {"All": self.all, "Things": self.things, "Stuff": self.stuff}
        return {**{name: average._asdict() for name, average in averages.items()}, "per_class": per_class}
