"""Foreground loss: keeps the total relevance inside the mask between the bounds C1 and C2, so that a map can neither
vanish nor explode; and the estimation of these bounds from the maps of a plain classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from cxr_isnet.losses.pooling import inside_mask


class ForegroundForm(Enum):
    """Shape of the foreground loss above the upper bound.

    L2: a parabola.
    HYBRID: a parabola that goes on as a line.
    """

    L2 = "l2"
    HYBRID = "hybrid"


@dataclass(frozen=True)
class RelevanceBounds:
    """Range of the total |relevance| of a map that costs nothing.

    Attributes:
        low: C1, > 0.
        high: C2, > C1. Either may be a tensor (), which is taken as it is: to look into it would stop a GPU.

    Raises:
        ValueError: if not 0 < low < high.
    """

    low: float | Tensor
    high: float | Tensor

    def __post_init__(self) -> None:
        if isinstance(self.low, Tensor) or isinstance(self.high, Tensor):
            return
        if not 0 < self.low < self.high:
            raise ValueError(f"bounds are ({self.low}, {self.high}); needed: 0 < low < high")


def foreground_loss(
    relevance: Tensor, mask: Tensor, bounds: RelevanceBounds, form: ForegroundForm = ForegroundForm.L2
) -> Tensor:
    """Penalty on the total relevance F inside the mask: (1 - min(F / C1, 1))^2, plus ((F - C2) / C1)^2 above C2.

    Args:
        relevance: (B, K, C, H, W) float, signed, not normalised; F is the sum of |R| inside the mask.
        mask: (B, 1, H', W'), or (B, K, 1, H', W') with one for each map, 0.5 or more inside; fitted to the map's size.
        bounds: C1 and C2.
        form: HYBRID replaces the parabola beyond C1 + C2, where it is 1, by the line 1 + (F - C1 - C2).

    Returns:
        (B,) mean over the K maps.

    Source:
        Bassi, Dertkigil, Cavalli, Nature Communications 15:291 (2024); the hybrid form is that of arXiv 2401.08409,
        whose line has slope 1 in units of relevance, not of C1.
    """
    return foreground_by_map(relevance, mask, bounds, form).mean(1)


def foreground_by_map(relevance: Tensor, mask: Tensor, bounds: RelevanceBounds, form: ForegroundForm) -> Tensor:
    """`foreground_loss` of each map by itself, (B, K)."""
    total = (relevance.abs() * inside_mask(mask, relevance)).sum((2, 3, 4))
    below = (1 - (total / bounds.low).clamp(max=1)) ** 2
    excess = (total - bounds.high).clamp(min=0)
    above = (excess / bounds.low) ** 2
    if form is ForegroundForm.HYBRID:
        above = torch.where(excess > bounds.low, 1 + excess - bounds.low, above)
    return below + above


class BoundEstimator:
    """Running mean and standard deviation of the total |relevance| of a map, and the bounds that follow from them.

    One estimator per set of rules and per layer. The total is that of the whole map, as in the reference
    implementation; the loss applies the bounds to the part inside the mask.

    Attributes:
        count: number of images seen.
        mean: m, mean of the total.

    Source:
        Bounds: reference implementation of Bassi et al., Nature Communications 15:291 (2024). Running moments:
        Welford, Technometrics 4(3), 1962.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    @torch.no_grad()
    def update(self, relevance: Tensor) -> None:
        """Add the maps of a batch; one value per image, the mean over its K maps.

        Args:
            relevance: (B, K, C, H, W) float, signed.

        Raises:
            ValueError: if a total is not finite.
        """
        for total in relevance.abs().sum((2, 3, 4), dtype=torch.float64).mean(1).tolist():
            if not math.isfinite(total):
                raise ValueError(
                    f"the total relevance of a map is {total}: the network that the bounds are estimated with has "
                    "diverged"
                )
            self.count += 1
            delta = total - self.mean
            self.mean += delta / self.count
            self._squares += delta * (total - self.mean)

    @property
    def deviation(self) -> float:
        """Sample standard deviation s of the total (n - 1); 0 for a single image."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 0.0

    def bounds(self) -> RelevanceBounds:
        """Bounds C1 = max(m / 5, m - 3 s) and C2 = min(25 C1, m + 3 s).

        C2 is kept above C1 where all maps have the same total, which leaves no range.

        Raises:
            ValueError: if no map was seen, or only maps of zeros.
        """
        if self.count == 0 or self.mean <= 0:
            raise ValueError(
                f"no bounds from {self.count} maps of mean total relevance {self.mean}: are the maps all zero?"
            )
        low = max(self.mean / 5, self.mean - 3 * self.deviation)
        return RelevanceBounds(low, max(min(25 * low, self.mean + 3 * self.deviation), low * (1 + 1e-6)))
