"""EfficientPS: panoptic segmentation research on PyTorch Lightning.

Names are imported when they are used, so that ``import efficientps`` alone loads neither PyTorch nor Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from efficientps import former_names

if TYPE_CHECKING:
    from efficientps.data.formats.video_file import VideoWriter, read_frames
    from efficientps.data.sources.cityscapes import CityscapesDataModule
    from efficientps.data.sources.coco_panoptic import CocoPanopticDataModule
    from efficientps.inference.predictor import Predictor, load
    from efficientps.inference.result import PanopticResult, write_coco
    from efficientps.metrics.panoptic_quality import PanopticQuality
    from efficientps.networks.detr.network import DETRPanoptic
    from efficientps.networks.efficientps.network import EfficientPS
    from efficientps.training.module import PanopticModule

__version__ = "0.1.0"

__all__ = [
    "CityscapesDataModule",
    "CocoPanopticDataModule",
    "DETRPanoptic",
    "EfficientPS",
    "PanopticModule",
    "PanopticQuality",
    "PanopticResult",
    "Predictor",
    "VideoWriter",
    "load",
    "read_frames",
    "write_coco",
]

_MODULES = {
    "CityscapesDataModule": "efficientps.data.sources.cityscapes",
    "CocoPanopticDataModule": "efficientps.data.sources.coco_panoptic",
    "DETRPanoptic": "efficientps.networks.detr.network",
    "EfficientPS": "efficientps.networks.efficientps.network",
    "PanopticModule": "efficientps.training.module",
    "PanopticQuality": "efficientps.metrics.panoptic_quality",
    "PanopticResult": "efficientps.inference.result",
    "Predictor": "efficientps.inference.predictor",
    "VideoWriter": "efficientps.data.formats.video_file",
    "load": "efficientps.inference.predictor",
    "read_frames": "efficientps.data.formats.video_file",
    "write_coco": "efficientps.inference.result",
}
"""Name -> the module that it is imported from."""

former_names.install()


def __getattr__(name: str) -> object:
    """Import a name of ``__all__`` when it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'efficientps' has no attribute '{name}'")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the names of the module, those that are not imported yet included."""
    return sorted({*globals(), *_MODULES})
