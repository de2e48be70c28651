"""The prediction of a panoptic network for one image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from efficientps.structures.instances import BoxPredictions, InstancePredictions
from efficientps.structures.panoptic import PanopticSegmentation


@dataclass
class Prediction:
    """The prediction of a panoptic network for one image; all parts have one size, usually that of the image file.

    Attributes:
        panoptic: the panoptic map.
        semantic: uint8 ``[h, w]``, train_id of each pixel before fusion (for mIoU).
        instances: all instances above the head's low detection threshold (for AP).
        boxes: boxes of things and stuff, for their AP; None if the network predicts none.
    """

    panoptic: PanopticSegmentation
    semantic: Tensor
    instances: InstancePredictions
    boxes: BoxPredictions | None = None

    def resize(self, size: tuple[int, int]) -> Prediction:
        """Return the prediction at another size ``(h, w)``; maps are resized by nearest neighbour.

        Networks of this package already predict at the size of the image file. The maps of a network that predicts at
        the size of its input are enlarged here, and keep the coarse edges of the input's size.
        """
        height, width = self.semantic.shape
        if (height, width) == tuple(size):
            return self
        semantic = interpolate(self.semantic[None, None], size=size, mode="nearest-exact")[0, 0]
        instances = self.instances.resize((height, width), size)
        boxes = self.boxes.resize((height, width), size) if self.boxes else None
        return Prediction(self.panoptic.resize(size), semantic, instances, boxes)
