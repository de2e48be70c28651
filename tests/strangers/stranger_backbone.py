import timm

from efficientps.backbones import Backbone
from efficientps.structures import FeaturePyramid


class ConvNeXt(Backbone):
    def __init__(self, *, name: str = "convnext_atto") -> None:
        super().__init__()
        self.levels = timm.create_model(name, features_only=True)
        self.channels = tuple(self.levels.feature_info.channels())

    def forward(self, images, *, checkpoint_blocks=False):
        return FeaturePyramid(*self.levels(images))
