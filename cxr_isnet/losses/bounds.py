"""The bounds C1 and C2 of the foreground loss, computed from the maps of a plain classifier."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cxr_isnet.losses.foreground import RelevanceBounds


class BoundEstimator:
    """Running mean and standard deviation of the total |R| of a map (Welford 1962), and the bounds that follow.

    One estimator per set of rules and per layer. The total is that of the whole map, as in the reference; the loss
    applies the bounds to the part inside the mask.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    @torch.no_grad()
    def update(self, relevance: Tensor) -> None:
        """Takes the maps (B, K, C, H, W) of a batch; one value per image, the mean over its K maps."""
        for total in relevance.abs().sum((2, 3, 4), dtype=torch.float64).mean(1).tolist():
            if not math.isfinite(total):
                raise ValueError(
                    f"the total relevance of a map is {total}: the network that the bounds are tuned on has diverged"
                )
            self.count += 1
            delta = total - self.mean
            self.mean += delta / self.count
            self._squares += delta * (total - self.mean)

    @property
    def deviation(self) -> float:
        """Sample standard deviation (n - 1); 0 for a single image."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 0.0

    def bounds(self) -> RelevanceBounds:
        """C1 = max(m / 5, m - 3 s), C2 = min(25 C1, m + 3 s) (reference implementation of Bassi et al. 2024).

        C2 is kept above C1 where all maps have the same total, which leaves no range.
        """
        if self.count == 0 or self.mean <= 0:
            raise ValueError(
                f"no bounds from {self.count} maps of mean total relevance {self.mean}: are the maps all zero?"
            )
        low = max(self.mean / 5, self.mean - 3 * self.deviation)
        return RelevanceBounds(low, max(min(25 * low, self.mean + 3 * self.deviation), low * (1 + 1e-6)))
