"""What a panoptic network says of one image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from efficientps.structures.instances import BoxPredictions, InstancePredictions
from efficientps.structures.panoptic import PanopticSegmentation


@dataclass
class Prediction:
    """What a panoptic network says of one image, all parts of it at one size: best that of the image file.

    Attributes:
        panoptic: the panoptic map.
        semantic: uint8 ``[h, w]``, train_id of each pixel before fusion (for mIoU).
        instances: all instances above the head's low detection threshold (for AP).
        boxes: of a network that detects things and stuff as boxes (for their AP); None of others.
    """

    panoptic: PanopticSegmentation
    semantic: Tensor
    instances: InstancePredictions
    boxes: BoxPredictions | None = None

    def resize(self, size: tuple[int, int]) -> Prediction:
        """Return the prediction at another size ``(h, w)``, such as that of the ground truth; maps by nearest.

        Networks of this package predict at the size of the image file already. One that predicts at the size of its
        input is brought to that of the ground truth here, with edges as coarse as its input.
        """
        height, width = self.semantic.shape
        if (height, width) == tuple(size):
            return self
        semantic = interpolate(self.semantic[None, None], size=size, mode="nearest-exact")[0, 0]
        instances = self.instances.resize((height, width), size)
        boxes = self.boxes.resize((height, width), size) if self.boxes else None
        return Prediction(self.panoptic.resize(size), semantic, instances, boxes)
