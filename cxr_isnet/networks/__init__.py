"""Networks: classification backbones, and the U-Net that finds the lungs."""

from cxr_isnet.networks.ag_sononet import AGSononet
from cxr_isnet.networks.backbones import BACKBONES, Backbone, NetworkConfig, build_network, find_backbone
from cxr_isnet.networks.grad_cam import activation_map, as_they_are, grad_cam, logits_and_features, resize
from cxr_isnet.networks.hierarchical_attention import HierarchicalAttention
from cxr_isnet.networks.last_layer import last_layer, logits_and_penultimate, penultimate
from cxr_isnet.networks.lung_unet import LUNG_PROBABILITY, Heart, SegmenterConfig, build_segmenter
from cxr_isnet.networks.multitask_unet import MultitaskUNet
from cxr_isnet.networks.timm_networks import TIMM, timm_model, timm_with_weights
from cxr_isnet.networks.vision_transformer import VisionTransformer

__all__ = [
    "BACKBONES",
    "LUNG_PROBABILITY",
    "TIMM",
    "AGSononet",
    "Backbone",
    "Heart",
    "HierarchicalAttention",
    "MultitaskUNet",
    "NetworkConfig",
    "SegmenterConfig",
    "VisionTransformer",
    "activation_map",
    "as_they_are",
    "build_network",
    "build_segmenter",
    "find_backbone",
    "grad_cam",
    "last_layer",
    "logits_and_features",
    "logits_and_penultimate",
    "penultimate",
    "resize",
    "timm_model",
    "timm_with_weights",
]
