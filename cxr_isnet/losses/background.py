"""Background loss: how strongly a map stands out outside the mask, measured against its mean inside."""

from __future__ import annotations

import torch
from torch import Tensor

from cxr_isnet.losses.pooling import gwrp, inside_mask

_RELATIVE_GUARD = 1e-10


def background_loss(relevance: Tensor, mask: Tensor, *, decay: float, activation: float = 1.0) -> Tensor:
    """Penalty on relevance outside the mask, relative to the mean inside.

    Per map, |R| is divided by its mean inside the mask (over channels and pixels); what remains outside is pooled by
    GWRP in each channel to g, and the loss is ln(1 + g / E), averaged over channels and maps. It does not change when a
    map is multiplied by a constant. Places are ranked over the whole map, those inside the mask as zeros.

    Args:
        relevance: (B, K, C, H, W) float, signed.
        mask: (B, 1, H', W'), or (B, K, 1, H', W') with one for each map, 0.5 or more inside; fitted to the map's size.
        decay: GWRP decay d in [0, 1] over the pixels of a channel.
        activation: E > 0.

    Returns:
        (B,) float32 or wider, >= 0, mean over the K maps.

    Source:
        Bassi, Dertkigil, Cavalli, Nature Communications 15:291 (2024). -ln(1 - g / (g + E)) there is ln(1 + g / E)
        here: the same value, without a clamp whose gradient is zero. The guard of the division is relative to the map,
        so that a map cannot escape by shrinking.
    """
    return background_by_map(relevance, mask, decay=decay, activation=activation).mean(1)


def background_by_map(relevance: Tensor, mask: Tensor, *, decay: float, activation: float = 1.0) -> Tensor:
    """`background_loss` of each map by itself, (B, K)."""
    size = relevance.abs()
    inside = inside_mask(mask, size)
    area = inside.sum((2, 3, 4)) * size.shape[2]
    mean_inside = (size * inside).sum((2, 3, 4)) / area.clamp(min=1)
    guard = _RELATIVE_GUARD * size.mean((2, 3, 4)).detach() + torch.finfo(size.dtype).tiny
    outside = size * (1 - inside) / (mean_inside + guard)[:, :, None, None, None]
    pooled = gwrp(outside.flatten(3), decay)
    return torch.log1p(pooled / activation).mean(2)
