"""Foreground loss: keeps the total relevance inside the mask between two bounds, so that a map can neither vanish nor
explode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from cxr_isnet.losses.mask import fit_mask


class ForegroundForm(Enum):
    """Shape of the loss above the upper cut: a parabola, or a parabola that goes on as a line."""

    L2 = "l2"
    HYBRID = "hybrid"


@dataclass(frozen=True)
class RelevanceBounds:
    """Range of the total |relevance| of a map that costs nothing, 0 < low < high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"bounds are ({self.low}, {self.high}); needed: 0 < low < high")


def foreground_loss(
    relevance: Tensor, mask: Tensor, bounds: RelevanceBounds, form: ForegroundForm = ForegroundForm.L2
) -> Tensor:
    """(1 - min(F / C1, 1))^2, plus ((F - C2) / C1)^2 above C2, for F the sum of |R| inside the mask.

    Args:
        relevance: (B, K, C, H, W) float, signed, not normalised.
        mask: (B, 1, H', W') of 0 and 1, fitted to the map's size.
        bounds: C1 and C2.
        form: HYBRID replaces the parabola beyond C1 + C2, where it is 1, by the line 1 + (F - C1 - C2).

    Returns:
        (B,) mean over the K maps.

    Source:
        Bassi, Dertkigil, Cavalli, Nature Communications 15:291 (2024); the hybrid form is that of arXiv 2401.08409,
        whose line has slope 1 in units of relevance, not of C1.
    """
    inside = fit_mask(mask, relevance.shape[-2:]).to(relevance.dtype)[:, None]
    total = (relevance.abs() * inside).sum((2, 3, 4))
    below = (1 - (total / bounds.low).clamp(max=1)) ** 2
    excess = (total - bounds.high).clamp(min=0)
    above = (excess / bounds.low) ** 2
    if form is ForegroundForm.HYBRID:
        above = torch.where(excess > bounds.low, 1 + excess - bounds.low, above)
    return (below + above).mean(1)
