"""Draw at random the anchors or proposals of each image that count in a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Sample(NamedTuple):
    """The S elements that were drawn from a batch, P of them positive."""

    indices: Tensor  # int64 [S], ascending; the images lie one after another
    positives: Tensor  # int64 [P], ascending: the places of the positives in `indices`
    counts: list[int]  # how many were drawn from each image
    positive_counts: list[int]  # and how many of these are positive


class BalancedSampler:
    """Draws elements of each image, with a largest share of positives (Ren et al., "Faster R-CNN", Sec. 3.1.3).

    From the same state of the random generator it draws the elements that torchvision's
    ``BalancedPositiveNegativeSampler`` draws. The host waits for the device twice, however many images there are.

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
            labels: labels of each image ``[A_i]``; 1 and more is positive, 0 is negative, and others are never drawn.
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
            # torchvision draws in this order.
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
