from efficientps.networks.efficientps.instance_head import InstanceHead
from efficientps.networks.efficientps.mask_rcnn import MaskRCNNHead
from efficientps.networks.efficientps.mask_rcnn.authors_network import authors_network
from efficientps.networks.efficientps.network import EfficientPS
from efficientps.networks.efficientps.semantic_head import SemanticHead
from efficientps.networks.efficientps.solov2 import SOLOv2Head
from efficientps.networks.efficientps.two_way_fpn import TwoWayFPN

__all__ = ["EfficientPS", "InstanceHead", "MaskRCNNHead", "SOLOv2Head", "SemanticHead", "TwoWayFPN", "authors_network"]
