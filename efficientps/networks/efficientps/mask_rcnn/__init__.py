from efficientps.networks.efficientps.mask_rcnn.head import MaskRCNNHead

__all__ = ["MaskRCNNHead"]
