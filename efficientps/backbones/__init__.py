from efficientps.backbones.backbone import Backbone
from efficientps.backbones.efficientnet import EfficientNetBackbone
from efficientps.backbones.resnet import ResNetBackbone
from efficientps.backbones.timm import TimmBackbone

__all__ = ["Backbone", "EfficientNetBackbone", "ResNetBackbone", "TimmBackbone"]
