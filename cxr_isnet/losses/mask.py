"""Masks at the size of a map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fit_mask(mask: Tensor, size: tuple[int, ...]) -> Tensor:
    """Mask (B, 1, H, W) of 0 and 1 at another size (h, w): a cell is 0 only where every pixel it covers is 0.

    So only places with no lung at all count as background in a small inner map.
    """
    if mask.shape[-2:] == tuple(size):
        return mask
    return F.adaptive_max_pool2d(mask, list(size))
