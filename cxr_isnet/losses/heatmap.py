"""The heatmap loss: background and foreground loss of all maps of a batch, at the image and at inner layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cxr_isnet.losses.background import background_by_map
from cxr_isnet.losses.foreground import ForegroundForm, RelevanceBounds, foreground_by_map
from cxr_isnet.losses.pooling import binary_mask, gwrp, inside_mask


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
    decay: float = 0.97
    activation: float = 0.3
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
        not_finite: number of images left out because a map of theirs is not finite.
    """

    loss: Tensor
    background: Tensor
    foreground: Tensor
    images: Tensor
    not_finite: Tensor


def heatmap_loss(
    maps: Mapping[str, Tensor],
    mask: Tensor,
    has_mask: Tensor,
    bounds: Mapping[str, Sequence[RelevanceBounds]],
    config: HeatmapLossConfig,
) -> HeatmapTerms:
    """Mean heatmap loss of the images that have a lung in their mask; 0 if none has.

    Args:
        maps: relevance (B, K, C, H, W) by layer name, the image's included. An image with a map that is not finite
            adds nothing and is counted: one broken pixel does not cost the batch.
        mask: (B, 1, H, W), or (B, K, 1, H, W) with one for each map, 0.5 or more inside.
        has_mask: (B,) bool. An image without a mask, or with an empty one, adds nothing: it is not all background.
        bounds: for each name, the bounds of each set of rules; K is shared out among them evenly, in order.
        config: weights and shapes.

    Raises:
        ValueError: if the maps of a layer cannot be shared out evenly among its bounds, or the mask does not fit them.
    """
    first = next(iter(maps.values()))
    inside = binary_mask(mask, *first.shape[:2])
    finite = torch.stack([found.detach().isfinite().flatten(1).all(1) for found in maps.values()]).all(0)
    usable = (has_mask & finite)[:, None] & inside.flatten(2).any(2)  # (B, 1 or K)
    weight = usable.to(first.dtype)
    one = torch.ones((), dtype=first.dtype, device=first.device)
    whole = torch.where(usable[:, :, None, None, None], inside.to(first.dtype), one)

    def mean(by_map: Tensor) -> Tensor:
        weights = weight.expand_as(by_map)
        return (by_map * weights).sum() / weights.sum().clamp(min=1)

    backgrounds, foregrounds = [], []
    for name, found in maps.items():
        if found.shape[1] % len(bounds[name]):
            raise ValueError(
                f"'{name}' has {found.shape[1]} maps per image for {len(bounds[name])} bounds: not the same share"
            )
        relevance = torch.where(usable[:, :, None, None, None], found, one)  # a map of any size adds nothing
        fitted = inside_mask(whole, relevance)
        backgrounds.append(mean(background_by_map(relevance, fitted, decay=config.decay, activation=config.activation)))
        groups = len(bounds[name])
        masks = fitted.chunk(groups, 1) if fitted.shape[1] > 1 else [fitted] * groups
        parts = [
            foreground_by_map(r, m, c, config.form)
            for r, m, c in zip(relevance.chunk(groups, 1), masks, bounds[name], strict=True)
        ]
        foregrounds.append(mean(torch.cat(parts, 1)))
    background, foreground = torch.stack(backgrounds), torch.stack(foregrounds)
    totals = config.background * background + config.foreground * foreground
    return HeatmapTerms(
        aggregate_layers(totals, config.layer_decay),
        background.mean(),
        foreground.mean(),
        weight.amax(1).sum(),
        (~finite).to(first.dtype).sum(),
    )


def usable_masks(mask: Tensor, has_mask: Tensor) -> Tensor:
    """Which images have a lung in their mask: without one, an image is not all background.

    Args:
        mask: (B, 1, H, W), 0.5 or more inside.
        has_mask: (B,) bool.

    Returns:
        (B,) bool.
    """
    return has_mask & binary_mask(mask, mask.shape[0]).flatten(1).any(1)


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
