"""Data structures shared by data, networks, metrics and training.

Letters used in every docstring of the package: B batch size, C classes, N instances, H and W height and width of the
padded canvas that a network sees, h and w height and width of the valid image in the top-left corner of the canvas, s
stride of a feature map.

Three id spaces are never mixed:

* ``label_id`` - the raw id in a dataset's files (7..33 in Cityscapes); only code that reads or writes files uses it.
* ``train_id`` - 0 .. num_stuff + num_things - 1, stuff classes first; the channel of the semantic logits.
* ``thing_id`` - 0 .. num_things - 1; ``train_id == num_stuff + thing_id``. There is no background slot.
"""

from efficientps.structures.batches import (
    ImageBatch,
    ImageSample,
    PanopticBatch,
    PanopticSample,
    TrainingBatch,
    UnreadableImage,
)
from efficientps.structures.categories import Categories, Category
from efficientps.structures.feature_pyramid import COARSEST_STRIDE, STRIDES, FeaturePyramid
from efficientps.structures.instances import (
    BoxPredictions,
    HostDetections,
    InstancePredictions,
    InstanceTargets,
    pixel_windows,
)
from efficientps.structures.panoptic import IGNORE_INDEX, VOID, PanopticSegmentation, Segment
from efficientps.structures.prediction import Prediction

__all__ = [
    "COARSEST_STRIDE",
    "IGNORE_INDEX",
    "STRIDES",
    "VOID",
    "BoxPredictions",
    "Categories",
    "Category",
    "FeaturePyramid",
    "HostDetections",
    "ImageBatch",
    "ImageSample",
    "InstancePredictions",
    "InstanceTargets",
    "PanopticBatch",
    "PanopticSample",
    "PanopticSegmentation",
    "Prediction",
    "Segment",
    "TrainingBatch",
    "UnreadableImage",
    "pixel_windows",
]
