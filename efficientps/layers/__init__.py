from efficientps.layers.conv import ConvNormAct, SeparableConv
from efficientps.layers.norm_act import InPlaceABN, freeze_norms, set_norm_implementation

__all__ = ["ConvNormAct", "InPlaceABN", "SeparableConv", "freeze_norms", "set_norm_implementation"]
