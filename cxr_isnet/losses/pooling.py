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
