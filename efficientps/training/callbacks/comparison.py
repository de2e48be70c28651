"""An image of a batch beside its prediction and its ground truth."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
from PIL import Image

from efficientps.structures import ImageBatch, PanopticBatch, PanopticSegmentation, Prediction
from efficientps.structures.categories import Categories
from efficientps.training.module import PanopticModule
from efficientps.visualization import Color, Picture, comparison

MAX_PICTURE_WIDTH = 1024
"""Width in pixels of one picture; a comparison of three pictures is three times as wide."""


def categories_of(pl_module: pl.LightningModule) -> Categories:
    """Return the categories of the module that is trained."""
    assert isinstance(pl_module, PanopticModule)
    return pl_module.categories


def valid_image(batch: ImageBatch, index: int) -> Picture:
    """Return one image of a batch without its padding, uint8 ``[h, w, 3]``."""
    height, width = batch["image_sizes"][index]
    return np.ascontiguousarray(batch["images"][index, :, :height, :width].permute(1, 2, 0).cpu().numpy())


def compare(batch: PanopticBatch, prediction: Prediction, categories: Categories, index: int = 0) -> Picture:
    """Paint one image of a batch, its prediction and its ground truth.

    All three have the size of the ground truth, or are smaller if it is wider than ``MAX_PICTURE_WIDTH``.
    """
    target = PanopticSegmentation(batch["segment_ids"][index], batch["segments"][index])
    height, width = target.segment_ids.shape
    shrink = min(1.0, MAX_PICTURE_WIDTH / width)
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    picture = Image.fromarray(valid_image(batch, index))
    image = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    colors, names = legend(categories)
    return comparison(image, prediction.panoptic.resize(size), target.resize(size), colors, names)


def legend(categories: Categories) -> tuple[list[Color], list[str]]:
    """Return the colours and the names of classes, by train_id."""
    return [category.color for category in categories], [category.name for category in categories]
