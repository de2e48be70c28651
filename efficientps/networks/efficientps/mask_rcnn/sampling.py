"""Which anchors or proposals count in a loss: a few of each image, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Sample(NamedTuple):
    """What was drawn from a batch: S elements of it, P of them positive."""

    indices: Tensor  # int64 [S], ascending; the images lie one after another
    positives: Tensor  # int64 [P], ascending: the places of the positives in `indices`
    counts: list[int]  # how many were drawn from each image
    positive_counts: list[int]  # and how many of these are positive


class BalancedSampler:
    """Draws elements of each image, with a largest share of positives (Ren et al., "Faster R-CNN", Sec. 3.1.3).

    It draws what torchvision's ``BalancedPositiveNegativeSampler`` draws from the same state of the random generator.
    The host waits for the device twice, however many images there are.

    Args:
        batch_size_per_image: elements to draw from each image.
        positive_fraction: largest share of positives among them; negatives fill up the rest.
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float) -> None:
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction

    def __call__(self, labels: Sequence[Tensor]) -> Sample:
        """Draw from the elements of each image.

        Args:
            labels: of each image ``[A_i]``: positive from 1 on, negative at 0, else never drawn.
        """
        flat = torch.cat(list(labels))
        masks = torch.stack([flat >= 1, flat == 0])
        lengths = [len(image) for image in labels]
        numbers: list[list[int]] = torch.stack(
            [mask.sum(dim=1) for mask in torch.split(masks, lengths, dim=1)], dim=1
        ).tolist()
        places = torch.split(masks.nonzero()[:, 1], [number for row in numbers for number in row])
        most_positives = int(self.batch_size_per_image * self.positive_fraction)
        positives, negatives = [], []
        for positive, negative in zip(places[: len(labels)], places[len(labels) :], strict=True):
            # In this order, so that the draws are torchvision's.
            positives.append(_draw(positive, most_positives))
            negatives.append(_draw(negative, self.batch_size_per_image - len(positives[-1])))
        indices = torch.cat(positives + negatives).sort().values
        return Sample(
            indices=indices,
            positives=torch.searchsorted(indices, torch.cat(positives).sort().values),
            counts=[len(positive) + len(negative) for positive, negative in zip(positives, negatives, strict=True)],
            positive_counts=[len(positive) for positive in positives],
        )


def _draw(places: Tensor, most: int) -> Tensor:
    return places[torch.randperm(len(places), device=places.device)[:most]]
