from efficientps.networks.efficientps.solov2.head import SOLOv2Head

__all__ = ["SOLOv2Head"]
