from efficientps.backbones.efficientnet import EfficientNetBackbone
from efficientps.backbones.resnet import ResNetBackbone

__all__ = ["EfficientNetBackbone", "ResNetBackbone"]
