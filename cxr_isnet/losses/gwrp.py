"""Global weighted rank pooling (Kolesnikov & Lampert 2016): between the maximum and the mean of a map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-8  # a rank whose weight is below this share of the first one is lost in float32 anyway


def gwrp(values: Tensor, decay: float) -> Tensor:
    """Weighted mean of `values` sorted in descending order, the i-th with weight decay^i.

    Args:
        values: (..., N) float, >= 0.
        decay: In [0, 1]. 0 gives the maximum, 1 the mean; about 1 / (1 - decay) values count.

    Returns:
        (...) in the dtype of `values`. Only the ranks with a weight above 1e-8 are sorted; the divisor is that of all
        ranks.
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
