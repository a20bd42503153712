"""Networks: classification backbones, and the U-Net that finds the lungs."""

from cxr_isnet.networks.backbones import BACKBONES, Backbone, NetworkConfig, build_network, find_backbone
from cxr_isnet.networks.last_layer import last_layer, penultimate

__all__ = [
    "BACKBONES",
    "Backbone",
    "NetworkConfig",
    "build_network",
    "find_backbone",
    "last_layer",
    "penultimate",
]
