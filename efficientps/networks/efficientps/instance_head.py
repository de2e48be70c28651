"""The contract between EfficientPS and its instance head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from efficientps.structures import FeaturePyramid, InstancePredictions, InstanceTargets


class InstanceHead(nn.Module, ABC):
    """Finds the instances of thing classes in the pyramid.

    Constructed with two positional arguments: the number of thing classes and the channels of the pyramid.

    Prediction has two halves. ``dense`` holds the layers over whole maps: their shapes and operations follow from the
    size of the pyramid alone, so that a CUDA graph can record them. ``decode`` holds the rest, whose shapes depend on
    the objects in the image. A head may implement ``predict`` alone; a head with both halves has
    ``predict = decode(pyramid, dense(pyramid), image_sizes)``.

    Attributes:
        score_thresh: instances with a lower score do not enter the panoptic fusion. ``predict`` returns them as well,
            because average precision is measured over all instances.
        mask_logit_scale: the fusion multiplies mask logits by it, so that they weigh against semantic logits.
        competes_everywhere: whether in the fusion an instance competes outside of its box, too, with FL = 0.
    """

    score_thresh: float = 0.5
    mask_logit_scale: float = 1.0
    competes_everywhere: bool = False

    @abstractmethod
    def loss(self, pyramid: FeaturePyramid, targets: Sequence[InstanceTargets]) -> dict[str, Tensor]:
        """Return the named loss terms, float32 scalars, connected to every trainable parameter of the head.

        Args:
            pyramid: features of the padded images.
            targets: one entry for each image; N = 0 is a normal case.
        """

    @abstractmethod
    def predict(self, pyramid: FeaturePyramid, image_sizes: Sequence[tuple[int, int]]) -> list[InstancePredictions]:
        """Return the instances of each image by falling score, N = 0 where there are none.

        Args:
            pyramid: features of the padded images.
            image_sizes: valid ``(h, w)`` of each image; no box reaches beyond it.
        """

    def dense(self, pyramid: FeaturePyramid) -> tuple[Tensor, ...]:
        """Return the results of the layers over whole maps that ``decode`` needs; by default there are none.

        The host may not wait for the device here (no ``item``, ``tolist``, ``nonzero``, boolean index or copy between
        host and device), and no value may decide which operations run.

        Args:
            pyramid: features of the padded images.
        """
        return ()

    def decode(
        self, pyramid: FeaturePyramid, dense: tuple[Tensor, ...], image_sizes: Sequence[tuple[int, int]]
    ) -> list[InstancePredictions]:
        """Return the instances of ``predict`` from the result of ``dense`` for the same pyramid.

        The memory of ``pyramid`` and ``dense`` is used again for the next images: no result may be a view of it, and
        nothing may be written to it.

        Args:
            pyramid: features of the padded images.
            dense: the result of ``dense``.
            image_sizes: valid ``(h, w)`` of each image; no box reaches beyond it.
        """
        return self.predict(pyramid, image_sizes)
