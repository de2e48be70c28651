"""Group images by their padded size, and set padding to zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from efficientps.structures import COARSEST_STRIDE, ImageBatch, Prediction


def by_canvas(image_sizes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """Group the indices of images by their size ``(h, w)``, rounded up to multiples of the coarsest stride.

    >>> by_canvas([(60, 100), (60, 200), (64, 97)])
    {(64, 128): [0, 2], (64, 224): [1]}
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, (height, width) in enumerate(image_sizes):
        canvas = (_multiple(height), _multiple(width))
        groups.setdefault(canvas, []).append(index)
    return groups


def _multiple(side: int) -> int:
    return math.ceil(side / COARSEST_STRIDE) * COARSEST_STRIDE


def predict_by_canvas(
    batch: ImageBatch,
    predict: Callable[[Tensor, Sequence[tuple[int, int]], Sequence[tuple[int, int]]], list[Prediction]],
) -> list[Prediction]:
    """Predict on images of one padded size together; no image gets more padding than its own size needs.

    A prediction then does not depend on the other images of the batch, and no time goes into padding.

    Args:
        batch: images on the common canvas of the batch.
        predict: returns the predictions for images uint8 ``[B', 3, H', W']`` of one canvas. Its other arguments are the
            valid size of each, and the size of its image file, at which it is to be predicted.

    Returns:
        One prediction for each image, in the order of the batch.
    """
    sizes = batch.get("original_sizes") or batch["image_sizes"]
    predictions: dict[int, Prediction] = {}
    for (height, width), indices in by_canvas(batch["image_sizes"]).items():
        images = torch.stack([batch["images"][i, :, :height, :width] for i in indices])
        image_sizes = [batch["image_sizes"][i] for i in indices]
        of_canvas = predict(images, image_sizes, [sizes[i] for i in indices])
        predictions.update(zip(indices, of_canvas, strict=True))
    return [predictions[i] for i in range(len(predictions))]


def clear_padding(images: Tensor, image_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return the images, in which everything outside of each valid size has become 0, in place.

    Args:
        images: ``[B, C, H, W]``, changed in place.
        image_sizes: valid ``(h, w)`` of each.
    """
    for image, (height, width) in zip(images, image_sizes, strict=True):
        # Nothing is launched where there is no padding, and one kernel where an assignment launches two.
        if height < image.shape[1]:
            image[:, height:].zero_()
        if width < image.shape[2]:
            image[:, :, width:].zero_()
    return images
