"""Networks: classification backbones, and the U-Net that finds the lungs."""

from cxr_isnet.networks.backbones import BACKBONES, Backbone, NetworkConfig, build_network, find_backbone
from cxr_isnet.networks.last_layer import last_layer, penultimate
from cxr_isnet.networks.lung_unet import LUNG_PROBABILITY, SegmenterConfig, build_segmenter

__all__ = [
    "BACKBONES",
    "LUNG_PROBABILITY",
    "Backbone",
    "NetworkConfig",
    "SegmenterConfig",
    "build_network",
    "build_segmenter",
    "find_backbone",
    "last_layer",
    "penultimate",
]
