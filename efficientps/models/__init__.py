from efficientps.models.backbone import EfficientNetBackbone
from efficientps.models.detr import Detector, DETRPanoptic, ResNetBackbone
from efficientps.models.efficientps import EfficientPS
from efficientps.models.instance_head import InstanceHead
from efficientps.models.mask_rcnn import MaskRCNNHead
from efficientps.models.network import PanopticNetwork
from efficientps.models.semantic_head import SemanticHead
from efficientps.models.solov2 import SOLOv2Head
from efficientps.models.two_way_fpn import TwoWayFPN

__all__ = [
    "DETRPanoptic",
    "Detector",
    "EfficientNetBackbone",
    "EfficientPS",
    "InstanceHead",
    "MaskRCNNHead",
    "PanopticNetwork",
    "ResNetBackbone",
    "SOLOv2Head",
    "SemanticHead",
    "TwoWayFPN",
]
