from efficientps.models.mask_rcnn.head import MaskRCNNHead

__all__ = ["MaskRCNNHead"]
