"""Classification networks by name, or by the import path of one that is defined elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from monai.networks.nets import DenseNet, EfficientNetBN, resnet18, resnet50
from torch import Tensor, nn

from cxr_isnet.config import choose, is_import_path, load_object
from cxr_isnet.errors import InputError
from cxr_isnet.networks.ag_sononet import AGSononet
from cxr_isnet.networks.grad_cam import as_they_are
from cxr_isnet.networks.hierarchical_attention import HierarchicalAttention
from cxr_isnet.networks.multitask_unet import MultitaskUNet
from cxr_isnet.networks.timm_networks import (
    TIMM,
    build_timm,
    timm_feature_maps,
    timm_layers,
    timm_size_multiple,
    token_maps,
)
from cxr_isnet.networks.vision_transformer import VisionTransformer


@dataclass(frozen=True)
class NetworkConfig:
    """Which network.

    Attributes:
        name: Of a built-in backbone; `timm:NAME` of a network of timm, where that is installed; or the import path of a
            `Backbone`, as `my_network.BACKBONE`.
        dropout: Probability of dropping a feature map, where the network has dropout; 0 for none.

    Example:
        >>> NetworkConfig("densenet_small", dropout=0.1)
        NetworkConfig(name='densenet_small', dropout=0.1)
    """

    name: str = "densenet121"
    dropout: float = 0.0


@dataclass(frozen=True)
class Backbone:
    """A classification network: how it is built, and what it can do.

    Attributes:
        name: As given in a config.
        build: (classes, rows and columns of the images, dropout) -> network from images (B, 1, H, W) in [0, 1] to
            logits (B, classes).
        supervised_layers: Module paths of the inner layers whose relevance deep supervision penalises (arXiv
            2401.08409: the final features and the first ReLU of each transition of a DenseNet; the stages of a ResNet).
            The last of them gives the feature maps of Grad-CAM.
        feature_maps: From what a supervised layer gives, or its relevance, to maps (B, C, h, w), where it is not that.
        network_class: Class of the networks that `build` returns, where a method calls more of it than its forward.
        has_dropout: It drops feature maps where it is asked to.
        has_relevance_rules: Every operation of it has a rule, so that `LRP` explains it.
        smallest_size: Fewest rows and columns of an image.
        size_multiple: What rows and columns must be a multiple of.

    A file `my_network.py` with `BACKBONE = Backbone("mine", build)` is used from a config as
    `network: {name: my_network.BACKBONE}`.
    """

    name: str
    build: Callable[[int, int, float], nn.Module]
    supervised_layers: tuple[str, ...] = ()
    feature_maps: Callable[[Tensor], Tensor] = as_they_are
    network_class: type[nn.Module] = nn.Module
    has_dropout: bool = False
    has_relevance_rules: bool = False
    smallest_size: int = 32
    size_multiple: int = 1

    def check_size(self, image_size: int) -> None:
        """Raises `InputError` if the network does not take images of this many rows and columns."""
        if image_size < self.smallest_size or image_size % self.size_multiple:
            multiple = f", a multiple of {self.size_multiple}" if self.size_multiple > 1 else ""
            raise InputError(
                f"image.size is {image_size}; network '{self.name}' takes {self.smallest_size} pixels or more{multiple}"
            )


_OUT_OF_PLACE = (
    "relu",
    {"inplace": False},
)  # relevance and autograd both need the activations before and after


def _densenet_layers(blocks: int) -> tuple[str, ...]:
    return (*(f"features.transition{i}.relu" for i in range(1, blocks)), "class_layers.relu")


def _densenet121(classes: int, image_size: int, dropout: float) -> nn.Module:
    """DenseNet121 (Huang et al. 2017) as MONAI builds it, without the extra transition ReLU of the ISNet reference."""
    return DenseNet(2, 1, classes, block_config=(6, 12, 24, 16), act=_OUT_OF_PLACE, dropout_prob=dropout)


def _densenet_small(classes: int, image_size: int, dropout: float) -> nn.Module:
    """A DenseNet of 0.7 million weights for small images and few cases: a fifth of the cost of DenseNet121."""
    return DenseNet(
        2,
        1,
        classes,
        init_features=32,
        growth_rate=16,
        block_config=(4, 8, 12, 8),
        act=_OUT_OF_PLACE,
        dropout_prob=dropout,
    )


def _densenet_tiny(classes: int, image_size: int, dropout: float) -> nn.Module:
    """A DenseNet of 0.09 million weights, for the demonstration and for tests."""
    return DenseNet(
        2,
        1,
        classes,
        init_features=16,
        growth_rate=12,
        block_config=(3, 4, 4),
        act=_OUT_OF_PLACE,
        dropout_prob=dropout,
    )


def _resnet(name: str, build: Callable[..., nn.Module], *blocks: int, stride: int = 2) -> Backbone:
    """A ResNet (He et al. 2016) as MONAI builds it, but with the usual stride of the first convolution."""
    layers = tuple(f"layer{stage}.{count - 1}.act" for stage, count in enumerate(blocks, start=1))
    settings = {"spatial_dims": 2, "n_input_channels": 1, "conv1_t_stride": stride}
    return Backbone(
        name, lambda classes, size, dropout: build(**settings, num_classes=classes), layers, has_relevance_rules=True
    )


def _unet(name: str, *features: int) -> Backbone:
    return Backbone(
        name,
        lambda classes, image_size, dropout: MultitaskUNet(classes, features),
        tuple(f"down_{level}.convs.conv_1.adn.A" for level in (1, 2, 3, 4)),
        network_class=MultitaskUNet,
        has_relevance_rules=True,
        size_multiple=16,
    )


def _ag_sononet(name: str, feature_scale: int) -> Backbone:
    filters = [width // feature_scale for width in (64, 128, 256, 512, 512)]
    return Backbone(name, lambda classes, size, dropout: AGSononet(classes, filters), network_class=AGSononet)


def _ham(name: str, block: str, layers: Sequence[int], planes: Sequence[int], width: int) -> Backbone:
    return Backbone(
        name,
        lambda classes, size, dropout: HierarchicalAttention(classes, block, layers, planes, width),
        network_class=HierarchicalAttention,
    )


def _vit(name: str, patch: int, width: int, depth: int, heads: int) -> Backbone:
    return Backbone(
        name,
        lambda classes, size, dropout: VisionTransformer(
            classes, size, patch=patch, width=width, depth=depth, heads=heads
        ),
        tuple(dict.fromkeys(f"blocks.{max(1, depth * i // 4) - 1}" for i in (1, 2, 3))),  # as `timm_layers`
        feature_maps=partial(token_maps, 1),
        network_class=VisionTransformer,
        has_relevance_rules=True,
        size_multiple=patch,
    )


_EFFICIENTNET_LAYERS = ("_blocks.1", "_blocks.2", "_blocks.4", "_blocks.6")  # the last at each size of its maps


def _efficientnet(classes: int, image_size: int, dropout: float) -> nn.Module:
    """EfficientNet-B0 (Tan, Le, ICML 2019) as MONAI builds it, without the weights of ImageNet.

    Its batch norms average as those of the other networks, over 10 steps. MONAI's average over 100, as suits ImageNet:
    after the few hundred steps of a small training, the network in use would still be another than the one trained.
    And its last layer starts as theirs: MONAI scales it by the number of classes, for two of them to logits of some 4.
    """
    norm = ("batch", {"eps": 1e-3, "momentum": 0.1})
    network = EfficientNetBN("efficientnet-b0", False, spatial_dims=2, in_channels=1, num_classes=classes, norm=norm)
    network._fc.reset_parameters()
    return network


def _timm(name: str) -> Backbone:
    return Backbone(
        TIMM + name,
        partial(build_timm, name),
        timm_layers(name),
        feature_maps=timm_feature_maps(name),
        has_dropout=True,
        has_relevance_rules=True,
        size_multiple=timm_size_multiple(name),
    )


BACKBONES: tuple[Backbone, ...] = (
    Backbone("densenet121", _densenet121, _densenet_layers(4), has_dropout=True, has_relevance_rules=True),
    Backbone("densenet_small", _densenet_small, _densenet_layers(4), has_dropout=True, has_relevance_rules=True),
    Backbone("densenet_tiny", _densenet_tiny, _densenet_layers(3), has_dropout=True, has_relevance_rules=True),
    _resnet("resnet18", resnet18, 2, 2, 2, 2),
    _resnet("resnet50", resnet50, 3, 4, 6, 3),
    _resnet("resnet18_stride1", resnet18, 2, 2, 2, 2, stride=1),
    _resnet("resnet50_stride1", resnet50, 3, 4, 6, 3, stride=1),
    Backbone("efficientnet_b0", _efficientnet, _EFFICIENTNET_LAYERS, has_relevance_rules=True),
    _vit("vit_b16", 16, 768, 12, 12),
    _vit("vit_tiny", 8, 48, 3, 3),
    _unet("multitask_unet", 64, 128, 256, 512, 1024, 64),
    _unet("multitask_unet_tiny", 8, 8, 16, 16, 32, 8),
    _ag_sononet("ag_sononet", 4),
    _ag_sononet("ag_sononet_tiny", 16),
    _ham("ham", "bottleneck", (3, 4, 6, 3), (64, 128, 256, 512), 512),
    _ham("ham_tiny", "basic", (1, 1, 1, 1), (8, 8, 16, 16), 16),
)
"""The built-in networks. A new one is an entry here."""


def find_backbone(name: str) -> Backbone:
    """The backbone of this name or import path; raises `InputError` naming the choices."""
    if is_import_path(name) and not name.startswith(TIMM):
        backbone: Backbone = load_object("network.name", name, Backbone)
        return backbone
    if name.startswith(TIMM):
        return _timm(name.removeprefix(TIMM))
    return choose("network.name", name, BACKBONES)


def build_network(config: NetworkConfig, classes: int, image_size: int) -> nn.Module:
    """The network, its weights drawn from torch's global generator.

    Args:
        config: Which one.
        classes: Number of outputs.
        image_size: Rows and columns of the images.

    Raises:
        InputError: If the name is unknown, dropout is asked of a network without, or it does not take such images.
    """
    backbone = find_backbone(config.name)
    backbone.check_size(image_size)
    if config.dropout and not backbone.has_dropout:
        raise InputError(f"network.dropout is {config.dropout}, but {config.name} has no dropout: set it to 0")
    return backbone.build(classes, image_size, config.dropout)
