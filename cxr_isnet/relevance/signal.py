"""The relevance signal G with R = a * G, for K maps of B images folded into one leading dimension (K * B, ...), K
outermost."""

from __future__ import annotations

from torch import Tensor


def times(signal: Tensor, factor: Tensor) -> Tensor:
    """signal (K * B, ...) times factor (B, ...), the factor broadcast over the maps instead of copied."""
    batch = factor.shape[0]
    if signal.shape[0] == batch:
        return signal * factor
    by_map: Tensor = signal.unflatten(0, (-1, batch))
    return (by_map * factor).flatten(0, 1)


def per_channel(factor: Tensor, like: Tensor) -> Tensor:
    """Factor (C,) shaped to multiply a tensor (B, C) or (B, C, H, W)."""
    return factor.reshape(1, -1, *([1] * (like.dim() - 2)))


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """z + epsilon * sign(z), with sign(0) = +1 (Bach et al. 2015, LRP-epsilon)."""
    return z + epsilon * ((z >= 0).to(z.dtype) * 2 - 1)
