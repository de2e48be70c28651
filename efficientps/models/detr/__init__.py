from efficientps.models.detr.detector import Detector
from efficientps.models.detr.detr_panoptic import DETRPanoptic
from efficientps.models.detr.resnet import ResNetBackbone

__all__ = ["DETRPanoptic", "Detector", "ResNetBackbone"]
