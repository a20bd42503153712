"""The heatmap loss: background and foreground loss of all maps of a batch, at the image and at inner layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cxr_isnet.losses.background import background_loss
from cxr_isnet.losses.foreground import ForegroundForm, RelevanceBounds, foreground_loss
from cxr_isnet.losses.pooling import gwrp


@dataclass(frozen=True)
class HeatmapLossConfig:
    """Weights and shapes of the heatmap loss.

    Attributes:
        background: w1, weight of the background loss.
        foreground: w2, weight of the foreground loss.
        decay: GWRP decay d over pixels. Small: a few strong pixels decide, so a small mark cannot hide; large:
            steadier.
        activation: E of the background loss.
        form: Shape of the foreground loss above the upper bound.
        layer_decay: GWRP decay over the losses of image and inner layers; 1 is their mean, 0 the worst of them.
    """

    background: float = 1.0
    foreground: float = 3.0
    decay: float = 0.9
    activation: float = 1.0
    form: ForegroundForm = ForegroundForm.L2
    layer_decay: float = 1.0


@dataclass(frozen=True)
class HeatmapTerms:
    """Scalars () of one batch.

    Attributes:
        loss: weighted sum of both terms over all layers.
        background: background term, mean over the layers.
        foreground: foreground term, mean over the layers.
        images: number of images that had a usable mask.
    """

    loss: Tensor
    background: Tensor
    foreground: Tensor
    images: Tensor


def heatmap_loss(
    maps: Mapping[str, Tensor],
    mask: Tensor,
    has_mask: Tensor,
    bounds: Mapping[str, Sequence[RelevanceBounds]],
    config: HeatmapLossConfig,
) -> HeatmapTerms:
    """Mean heatmap loss of the images that have a lung in their mask; 0 if none has.

    Args:
        maps: relevance (B, K, C, H, W) by layer name, the image's included.
        mask: (B, 1, H, W) of 0 and 1.
        has_mask: (B,) bool. An image without a mask, or with an empty one, adds nothing: it is not all background.
        bounds: for each name, the bounds of each set of rules; K is shared out among them evenly, in order.
        config: weights and shapes.

    Raises:
        ValueError: if the maps of a layer cannot be shared out evenly among its bounds.
    """
    dtype = next(iter(maps.values())).dtype
    usable = usable_masks(mask, has_mask)
    weight = usable.to(dtype)
    images = weight.sum()
    one = torch.ones((), dtype=dtype, device=mask.device)
    whole = torch.where(usable[:, None, None, None], mask.to(dtype), one)

    def mean(per_image: Tensor) -> Tensor:
        return (per_image * weight).sum() / images.clamp(min=1)

    backgrounds, foregrounds = [], []
    for name, found in maps.items():
        if found.shape[1] % len(bounds[name]):
            raise ValueError(
                f"'{name}' has {found.shape[1]} maps per image for {len(bounds[name])} bounds: not the same share"
            )
        relevance = torch.where(usable[:, None, None, None, None], found, one)  # a map of any size adds nothing
        backgrounds.append(mean(background_loss(relevance, whole, decay=config.decay, activation=config.activation)))
        groups = relevance.chunk(len(bounds[name]), 1)
        parts = [foreground_loss(r, whole, c, config.form) for r, c in zip(groups, bounds[name], strict=True)]
        foregrounds.append(mean(torch.stack(parts).mean(0)))
    background, foreground = torch.stack(backgrounds), torch.stack(foregrounds)
    totals = config.background * background + config.foreground * foreground
    return HeatmapTerms(aggregate_layers(totals, config.layer_decay), background.mean(), foreground.mean(), images)


def usable_masks(mask: Tensor, has_mask: Tensor) -> Tensor:
    """Which images have a lung in their mask: without one, an image is not all background.

    Args:
        mask: (B, 1, H, W) of 0 and 1.
        has_mask: (B,) bool.

    Returns:
        (B,) bool.
    """
    return has_mask & (mask > 0).flatten(1).any(1)


def aggregate_layers(losses: Tensor, decay: float) -> Tensor:
    """GWRP over the losses of L layers, so that the worst layer weighs most.

    Args:
        losses: (L,) float, >= 0.
        decay: GWRP decay in [0, 1].

    Returns:
        () loss.

    Source:
        arXiv 2401.08409.
    """
    return gwrp(losses, decay)
