"""Networks that find exactly so many instances in every image, whatever their weights are."""

from __future__ import annotations

from typing import cast

from efficientps.models.detr.detr_panoptic import DETRPanoptic
from efficientps.models.efficientps import EfficientPS
from efficientps.models.mask_rcnn import MaskRCNNHead
from efficientps.models.network import PanopticNetwork
from efficientps.models.solov2 import SOLOv2Head


def force_instances(network: PanopticNetwork, number: int) -> None:
    """Move the thresholds of a network so that it hands this many instances to the fusion, the best of all candidates.

    DETR has a candidate for each query: build it with so many queries.

    Raises:
        TypeError: the network has an instance head that is not known here.
    """
    if isinstance(network, DETRPanoptic):
        network.score_thresh = network.detection_thresh = -1.0
        return
    head = cast(EfficientPS, network).instance_head
    if isinstance(head, MaskRCNNHead):
        head.score_thresh = head.box_branch.detection_thresh = -1.0
        head.box_branch.max_detections = number
    elif isinstance(head, SOLOv2Head):
        head.score_thresh = head.detection_thresh = head.update_thresh = -1.0
        head.max_detections = number
    else:
        raise TypeError(f"{type(head).__name__} has no thresholds that are known here.")
