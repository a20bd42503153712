"""Grad-CAM: feature maps of a layer, weighted by the mean gradient of a score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.errors import InputError


def logits_and_features(network: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a network, and the feature maps that one of its layers gives on the way; both with their graph.

    Args:
        network: From images (B, 1, H, W) to logits (B, classes).
        layer: Module path, as in `named_modules`; where the network is a part of another, its path in the part. Of a
            module that is called several times, the last output is taken.
        images: (B, 1, H, W).

    Returns:
        Logits (B, classes) and the layer's output, (B, C, h, w) or as its backbone's `feature_maps` takes it.

    Raises:
        InputError: The network has no such layer, or several, or its output is no tensor.
    """
    found = [module for path, module in network.named_modules() if path == layer or path.endswith(f".{layer}")]
    if len(found) != 1:
        raise InputError(f"{type(network).__name__} has {len(found)} layers '{layer}'; Grad-CAM needs one")
    outputs: list[Any] = []
    hook = found[0].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        logits = network(images)
    finally:
        hook.remove()
    if not outputs or not isinstance(outputs[-1], Tensor) or outputs[-1].dim() < 3:
        raise InputError(f"layer '{layer}' of {type(network).__name__} gives no feature maps (B, C, h, w) for Grad-CAM")
    return logits, outputs[-1]


def as_they_are(maps: Tensor) -> Tensor:
    """For a layer that gives feature maps (B, C, h, w)."""
    return maps


def activation_map(score: Tensor, features: Tensor, feature_maps: Callable[[Tensor], Tensor] = as_they_are) -> Tensor:
    """Grad-CAM of one score: ReLU of the sum over maps of the mean gradient by the map times the map.

    The graph goes through the features only: their weights, the mean gradients, are constants.

    Args:
        score: Scalar, the sum of a score of every image.
        features: Output of a layer that the score was computed from.
        feature_maps: From that, or its gradient, to maps (B, C, h, w): the backbone's.

    Returns:
        (B, 1, h, w) float32 or wider, 0 or more, not normalised.

    Source:
        Selvaraju et al., Grad-CAM, ICCV 2017 (arXiv 1610.02391), equations 1 and 2.
    """
    (gradient,) = torch.autograd.grad(score, features, retain_graph=True)
    wide = torch.promote_types(features.dtype, torch.float32)
    weights = feature_maps(gradient).to(wide).mean((2, 3), keepdim=True)
    return (weights * feature_maps(features).to(wide)).sum(1, keepdim=True).relu()


def grad_cam(
    network: nn.Module, layer: str, images: Tensor, feature_maps: Callable[[Tensor], Tensor] = as_they_are
) -> tuple[Tensor, Tensor]:
    """Logits (B, classes), and the map of every class's logit (B, classes, H, W), bilinear; both without a graph.

    Arguments and errors are those of `logits_and_features` and `activation_map`.
    """
    with torch.enable_grad():
        logits, features = logits_and_features(network, layer, images.detach().requires_grad_())
        scores = logits.sum(0)
        maps = [activation_map(score, features, feature_maps).detach() for score in scores]
    return logits.detach(), resize(torch.cat(maps, 1), images)


def resize(maps: Tensor, images: Tensor) -> Tensor:
    """Maps (B, K, h, w), bilinear at the size of images (B, 1, H, W)."""
    return F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
