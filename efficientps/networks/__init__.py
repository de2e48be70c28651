from efficientps.networks.network import PanopticNetwork

__all__ = ["PanopticNetwork"]
