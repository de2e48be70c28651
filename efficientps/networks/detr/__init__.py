from efficientps.networks.detr.detector import Detector
from efficientps.networks.detr.network import DETRPanoptic

__all__ = ["DETRPanoptic", "Detector"]
