"""EfficientPS: panoptic segmentation research on PyTorch Lightning."""

from efficientps import former_names

__version__ = "0.1.0"

former_names.install()
