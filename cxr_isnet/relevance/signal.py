"""Arithmetic of the relevance signal G with R = a * G, for K maps of B images folded into one leading dimension
(K * B, ...), K outermost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cxr_isnet.relevance.errors import RelevanceError


def check_not_negative(name: str, value: float) -> None:
    """Raises `RelevanceError` for a setting that must be 0 or more."""
    if not value >= 0:
        raise RelevanceError(f"{name} is {value}; it must be 0 or more")


def times(signal: Tensor, factor: Tensor) -> Tensor:
    """Signal (K * B, ...) times factor (B, ...), the factor broadcast over the maps instead of copied."""
    batch = factor.shape[0]
    if signal.shape[0] == batch:
        return signal * factor
    by_map: Tensor = signal.unflatten(0, (-1, batch))
    return (by_map * factor).flatten(0, 1)


def by_map(signal: Tensor, like: Tensor) -> Tensor:
    """Signal (K * B, ...) as (K, *shape of `like`), whose first dimension is B."""
    _check_batch(like)
    maps: Tensor = signal.reshape(-1, *like.shape)
    return maps


def _check_batch(tensor: Tensor) -> None:
    if tensor.dim() == 0:
        raise RelevanceError("the mean or sum over a whole batch mixes images: reduce over channels or pixels")


def summed_to(maps: Tensor, like: Tensor) -> Tensor:
    """Maps (K, *broadcast shape) to signals (K * B, ...) of a tensor that was broadcast."""
    _check_batch(like)
    added = maps.dim() - 1 - like.dim()
    if added:
        maps = maps.sum(tuple(range(1, 1 + added)))
    spread = tuple(i + 1 for i, size in enumerate(like.shape) if size == 1 and maps.shape[i + 1] != 1)
    return (maps.sum(spread, keepdim=True) if spread else maps).flatten(0, 1)


def per_channel(factor: Tensor, like: Tensor) -> Tensor:
    """Factor (C,) shaped to multiply a tensor (B, C) or (B, C, H, W)."""
    return factor.reshape(1, -1, *([1] * (like.dim() - 2)))


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """z + epsilon * sign(z), with sign(0) = +1 (Bach et al. 2015, LRP-epsilon)."""
    return z + epsilon * ((z >= 0).to(z.dtype) * 2 - 1)


def inverse(z: Tensor, epsilon: float) -> Tensor:
    """1 / (z + epsilon * sign(z)); 0 where that is 0, as under a black patch at epsilon = 0: nothing was received."""
    denominator = stabilised(z, epsilon)
    if epsilon > 0:
        return 1 / denominator
    silent = denominator == 0
    return torch.where(silent, 0.0, 1 / torch.where(silent, 1.0, denominator))


def epsilon_gate(signal: Tensor, output: Tensor, epsilon: float) -> Tensor:
    """Signal times the factor y / (y + epsilon) at a ReLU output y: the only difference of LRP-epsilon to the gradient.

    Args:
        signal: (K * B, ...).
        output: y, (B, ...), >= 0.
        epsilon: stabiliser, >= 0.

    Returns:
        (K * B, ...) in float32 or wider, whatever autocast made of the activations; 0 where y = 0, also at
        epsilon = 0.
    """
    y = output.float() if output.dtype.itemsize < 4 else output
    if epsilon == 0:
        return times(signal, (y > 0).to(y.dtype))
    gated: Tensor = _EpsilonGate.apply(signal.to(y.dtype), y, epsilon)
    return gated


class _EpsilonGate(torch.autograd.Function):
    """`epsilon_gate` in less memory.

    It acts on every activation of the network, so passes over memory count here and nowhere else. Autograd would keep
    y + epsilon and the factor beside y and the signal; this keeps only the two that exist anyway and computes the rest
    again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(signal: Tensor, y: Tensor, epsilon: float) -> Tensor:
        return times(signal, (y + epsilon).reciprocal_().mul_(y))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.epsilon = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of signal and y; buffers are used again unless these are to be differentiated in turn."""
        (gradient,) = gradients
        signal, y = ctx.saved_tensors
        inverse = (y + ctx.epsilon).reciprocal_()
        shared = times(gradient, inverse)
        to_y = None
        if ctx.needs_input_grad[1]:
            to_y = shared * signal
            if len(to_y) != len(y):
                to_y = to_y.unflatten(0, (-1, y.shape[0])).sum(0)
            to_y = (to_y * inverse).mul_(ctx.epsilon)
        if torch.is_grad_enabled():
            return times(shared, y), to_y, None
        return shared.unflatten(0, (-1, y.shape[0])).mul_(y).flatten(0, 1), to_y, None
