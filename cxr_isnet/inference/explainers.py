"""How a prediction is explained: a map for every class, by one of several ways; or none, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from cxr_isnet.errors import InputError
from cxr_isnet.networks import NetworkConfig, find_backbone, grad_cam
from cxr_isnet.objectives import Explain, Explanation, Method
from cxr_isnet.relevance import LRP, RelevanceError


class AttendingNetwork(Protocol):
    """A network that returns attention maps."""

    def attention(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W) to logits (B, classes) and maps (B, classes, H, W)."""


@dataclass(frozen=True)
class Explainer:
    """What draws the maps of one network.

    Attributes:
        explain: Images (B, 1, H, W) to logits (B, classes) and maps (B, classes, H, W), without a graph; None where
            there are no maps.
        reason: Why there are none; "" where there are.
    """

    explain: Explain | None
    reason: str = ""


def make_explainer(
    network: nn.Module, method: Method, config: NetworkConfig, kind: Explanation | None = None
) -> Explainer:
    """The explainer of a network.

    Args:
        network: What predicts.
        method: The method that it was trained with.
        config: The backbone that it is made of.
        kind: How it is to be explained; None takes the method's own way.

    Raises:
        InputError: `kind` is attention, and the network has no `attention`.
    """
    way = method.explanation if kind is None else kind
    if way is Explanation.NONE:
        return Explainer(None, "no explanation was asked for" if kind else f"method '{method.name}' has none")
    if way is Explanation.INPUT_GRADIENT:
        return Explainer(lambda images: _input_gradient(network, images))
    if way is Explanation.GRAD_CAM:
        backbone = find_backbone(config.name)
        layers = backbone.supervised_layers
        if not layers:
            return Explainer(None, f"network '{config.name}' names no layer of its last feature maps")
        return Explainer(lambda images: grad_cam(network, layers[-1], images, backbone.feature_maps))
    if way is Explanation.ATTENTION:
        if not hasattr(network, "attention"):
            raise InputError(f"network '{config.name}' has no attention maps: choose another explainer")
        return Explainer(torch.no_grad()(cast(AttendingNetwork, network).attention))
    if way is Explanation.LRP:
        return _relevance(network, config)
    try:
        return Explainer(torch.no_grad()(way(network)))
    except RelevanceError as error:
        return Explainer(None, f"relevance cannot be computed: {error}")


def _relevance(network: nn.Module, config: NetworkConfig) -> Explainer:
    if not find_backbone(config.name).has_relevance_rules:
        return Explainer(None, f"network '{config.name}' has no relevance rules")
    try:
        lrp = LRP(network)
    except RelevanceError as error:
        return Explainer(None, f"relevance cannot be computed: {error}")

    @torch.no_grad()
    def explain(images: Tensor) -> tuple[Tensor, Tensor]:
        logits, relevance = lrp(images)
        return logits, relevance.image[:, :, 0]

    return Explainer(explain)


def _input_gradient(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Derivative of every logit by every pixel (Simonyan et al. 2014, arXiv 1312.6034)."""
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        logits = network(pixels)
        maps = [
            torch.autograd.grad(logits[:, index].sum(), pixels, retain_graph=True)[0].sum(1)
            for index in range(logits.shape[1])
        ]
    return logits.detach(), torch.stack(maps, 1)
