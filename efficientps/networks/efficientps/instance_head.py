"""The contract of an instance head: one in, one list out, swapped by one line of the configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from efficientps.structures import FeaturePyramid, InstancePredictions, InstanceTargets


class InstanceHead(nn.Module, ABC):
    """Finds the instances of thing classes in the pyramid.

    Constructed with two positional arguments: the number of thing classes and the channels of the pyramid.

    Prediction has two halves. ``dense`` is what a CUDA graph can hold: the layers over whole maps, whose shapes and
    operations follow from the size of the pyramid alone. ``decode`` is the rest: what hangs on what was found. A head
    may leave both out and have ``predict`` alone; one that has them writes
    ``predict = decode(pyramid, dense(pyramid), image_sizes)``.

    Attributes:
        score_thresh: instances below it do not enter the panoptic fusion. ``predict`` returns lower ones as well,
            because average precision is measured over all of them.
        mask_logit_scale: the fusion multiplies mask logits by it, so that they weigh against semantic logits.
    """

    score_thresh: float = 0.5
    mask_logit_scale: float = 1.0

    @abstractmethod
    def loss(self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]) -> dict[str, Tensor]:
        """Return the named loss terms, float32 scalars, connected to every trainable parameter of the head.

        Args:
            pyramid: of the padded images.
            targets: one entry for each image; N = 0 is a normal case.
        """

    @abstractmethod
    def predict(self, pyramid: FeaturePyramid, image_sizes: Sequence[tuple[int, int]]) -> list[InstancePredictions]:
        """Return the instances of each image by falling score, N = 0 where there are none.

        Args:
            pyramid: of the padded images.
            image_sizes: valid ``(h, w)`` of each image; no box reaches beyond it.
        """

    def dense(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return what ``decode`` needs of the layers over whole maps; nothing, unless a head says otherwise.

        Nothing in it may wait for the device (no ``item``, ``tolist``, ``nonzero``, boolean index or copy between host
        and device), and it may not look at values to choose what to do.

        Args:
            pyramid: of the padded images.
        """
        return ()

    def decode(
        self, pyramid: FeaturePyramid, dense: tuple[Tensor, ...], image_sizes: Sequence[tuple[int, int]]
    ) -> list[InstancePredictions]:
        """Return what ``predict`` does, from what ``dense`` has computed of the same pyramid.

        The memory of ``pyramid`` and ``dense`` is written again for the next images: nothing that is returned may be a
        view of it, and it is not to be written to.

        Args:
            pyramid: of the padded images.
            dense: the result of ``dense``.
            image_sizes: valid ``(h, w)`` of each image; no box reaches beyond it.
        """
        return self.predict(pyramid, image_sizes)
