"""Pooling that the heatmap losses share: rank pooling of relevance, max pooling of masks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_NEGLIGIBLE = 1e-8  # a rank whose weight is below this share of the first one is lost in float32 anyway


def gwrp(values: Tensor, decay: float) -> Tensor:
    """Global weighted rank pooling: the weighted mean of `values` in descending order, the i-th with weight decay^i.

    Args:
        values: (..., N) float, >= 0.
        decay: in [0, 1]. 0 gives the maximum, 1 the mean; about 1 / (1 - decay) values count.

    Returns:
        (...) in the dtype of `values`. Only the ranks with a weight above 1e-8 are sorted; the divisor is that of all
        ranks.

    Raises:
        ValueError: if `decay` is not in [0, 1].

    Source:
        Kolesnikov, Lampert, Seed, expand and constrain, ECCV 2016 (arXiv 1603.06098).
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"GWRP decay is {decay}; it must lie in [0, 1]")
    count = values.shape[-1]
    if decay == 1:
        return values.mean(-1)
    if decay == 0:
        return values.amax(-1)
    ranks = min(count, math.ceil(math.log(_NEGLIGIBLE) / math.log(decay)))
    largest = values.topk(ranks, dim=-1).values
    weights = decay ** torch.arange(ranks, dtype=torch.float64, device=values.device)
    return (largest * weights.to(values.dtype)).sum(-1) * ((1 - decay) / (1 - decay**count))


def fit_mask(mask: Tensor, size: tuple[int, ...]) -> Tensor:
    """Lung mask max-pooled to the size of a relevance map: a cell is 0 only where every pixel it covers is 0.

    So only places with no lung at all count as background in a small inner map.

    Args:
        mask: (B, 1, H, W) of 0 and 1.
        size: rows and columns (h, w) of the map.

    Returns:
        (B, 1, h, w) of 0 and 1; `mask` itself where it has this size.
    """
    if mask.shape[-2:] == tuple(size):
        return mask
    return F.adaptive_max_pool2d(mask, list(size))


def binary_mask(mask: Tensor, batch: int, maps: int = 1) -> Tensor:
    """Which pixels lie in the mask, whatever its scale: 0 and 1, 0 and 255, bool, or a segmenter's probabilities.

    Args:
        mask: (B, 1, H, W), or (B, K, 1, H, W) with a mask for each of K maps; a pixel of 0.5 or more lies inside, one
            that is not a number does not.
        batch: B.
        maps: K.

    Returns:
        bool (B, 1 or K, 1, H, W).

    Raises:
        ValueError: for any other shape, as of a coloured mask or one without its channel.
    """
    by_map = mask[:, None] if mask.dim() == 4 else mask
    if by_map.dim() != 5 or by_map.shape[2] != 1 or by_map.shape[0] != batch or by_map.shape[1] not in (1, maps):
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)} for {batch} images of {maps} maps; needed: ({batch}, 1, H, W), or "
            f"({batch}, {maps}, 1, H, W) with one for each map. A mask without a channel: mask[:, None]; a coloured "
            "one: its first channel, mask[:, :1]"
        )
    return by_map >= 0.5


def inside_mask(mask: Tensor, relevance: Tensor) -> Tensor:
    """`binary_mask` at the size of the maps.

    Args:
        mask: as for `binary_mask`.
        relevance: (B, K, C, h, w).

    Returns:
        (B, 1 or K, 1, h, w) of 0 and 1 in the dtype of the maps.
    """
    by_map = binary_mask(mask, *relevance.shape[:2]).to(relevance.dtype)
    fitted: Tensor = fit_mask(by_map.flatten(0, 1), relevance.shape[-2:]).unflatten(0, by_map.shape[:2])
    return fitted
