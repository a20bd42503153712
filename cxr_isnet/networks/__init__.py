"""Networks: classification backbones, and the U-Net that finds the lungs."""

from cxr_isnet.networks.backbones import BACKBONES, Backbone, NetworkConfig, build_network, find_backbone
from cxr_isnet.networks.last_layer import last_layer, logits_and_penultimate, penultimate
from cxr_isnet.networks.lung_unet import SegmenterConfig, build_segmenter

__all__ = [
    "BACKBONES",
    "Backbone",
    "NetworkConfig",
    "SegmenterConfig",
    "build_network",
    "build_segmenter",
    "find_backbone",
    "last_layer",
    "logits_and_penultimate",
    "penultimate",
]
