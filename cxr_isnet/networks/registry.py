"""Networks by name. Every entry maps images (B, 1, H, W) in [0, 1] to logits (B, classes) and has rules for
relevance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from monai.networks.nets import DenseNet, resnet18, resnet50
from torch import nn

from cxr_isnet.errors import InputError


@dataclass(frozen=True)
class NetworkConfig:
    """Which network.

    Attributes:
        name: Key of `NETWORKS`.
        dropout: Probability of dropping a feature map, where the network has dropout; 0 for none.
    """

    name: str = "densenet121"
    dropout: float = 0.0


@dataclass(frozen=True)
class NetworkSpec:
    """How to build a network, and what deep supervision looks at.

    Attributes:
        build: (classes, dropout) -> network.
        supervised_layers: Module paths of the inner layers whose relevance deep supervision penalises (arXiv
            2401.08409: the final features and the first ReLU of each transition of a DenseNet; the stages of a ResNet).
    """

    build: Callable[[int, float], nn.Module]
    supervised_layers: tuple[str, ...]


_OUT_OF_PLACE = (
    "relu",
    {"inplace": False},
)  # relevance and autograd both need the activations before and after
_RESNET_LAYERS = tuple(f"layer{i}.{last}.act" for i, last in ((1, 1), (2, 1), (3, 1), (4, 1)))


def _densenet_layers(blocks: int) -> tuple[str, ...]:
    return (*(f"features.transition{i}.relu" for i in range(1, blocks)), "class_layers.relu")


def _densenet121(classes: int, dropout: float) -> nn.Module:
    """DenseNet121 (Huang et al. 2017) as MONAI builds it, without the extra transition ReLU of the ISNet reference."""
    return DenseNet(2, 1, classes, block_config=(6, 12, 24, 16), act=_OUT_OF_PLACE, dropout_prob=dropout)


def _densenet_small(classes: int, dropout: float) -> nn.Module:
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


def _densenet_tiny(classes: int, dropout: float) -> nn.Module:
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


NETWORKS: Mapping[str, NetworkSpec] = {
    "densenet121": NetworkSpec(_densenet121, _densenet_layers(4)),
    "densenet_small": NetworkSpec(_densenet_small, _densenet_layers(4)),
    "densenet_tiny": NetworkSpec(_densenet_tiny, _densenet_layers(3)),
    "resnet18": NetworkSpec(
        lambda classes, dropout: resnet18(spatial_dims=2, n_input_channels=1, num_classes=classes),
        _RESNET_LAYERS,
    ),
    "resnet50": NetworkSpec(
        lambda classes, dropout: resnet50(spatial_dims=2, n_input_channels=1, num_classes=classes),
        tuple(f"layer{i}.{last}.act" for i, last in ((1, 2), (2, 3), (3, 5), (4, 2))),
    ),
}


def build_network(config: NetworkConfig, classes: int) -> nn.Module:
    """The network with `classes` outputs, its weights drawn from torch's global generator.

    Raises:
        InputError: If the name is unknown, or dropout is asked of a network without.
    """
    spec = network_spec(config.name)
    if config.dropout and not config.name.startswith("densenet"):
        raise InputError(f"network.dropout is {config.dropout}, but {config.name} has no dropout: set it to 0")
    return spec.build(classes, config.dropout)


def network_spec(name: str) -> NetworkSpec:
    """The entry `name`; raises `InputError` naming the choices."""
    if name not in NETWORKS:
        raise InputError(f"network.name is '{name}'; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]
