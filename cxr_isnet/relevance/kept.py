"""Operations that relevance needs more of than their output, called in a form that gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cxr_isnet.relevance.trace import AffineNorm, wide


def _batch_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, AffineNorm, Any]:
    """Batch norm (B, C, ...) and its map; torch computes the batch statistics anyway, so they cost nothing more."""
    _, weight, bias, running_mean, running_var, training, _, eps, _ = args
    if training:
        output, mean, inverse_deviation, *_ = torch._batch_norm_impl_index(*args)
    else:
        output = func(*args)
        inverse_deviation = torch.rsqrt(wide(running_var) + eps)
        mean = running_mean.clone()  # the buffer may be updated before backward
    inverse_deviation, mean = wide(inverse_deviation.detach()), wide(mean.detach())
    scale = inverse_deviation if weight is None else wide(weight) * inverse_deviation
    return output, AffineNorm(scale, mean, bias if bias is None else wide(bias)), func


def _dropout(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None, Any]:
    """Dropout and the factors 0 or 1 / (1 - p) applied; None in evaluation."""
    x, p, training = args
    if not training or p == 0:
        return func(x, p, False), None, func
    factors = func(torch.ones_like(x), p, True)
    return x * factors, factors, _Times(factors)


@dataclass(frozen=True)
class _Times:
    factors: Tensor

    def __call__(self, x: Tensor, *_: Any) -> Tensor:
        return x * self.factors


KEEPING: Mapping[str, Callable[..., tuple[Tensor, Any, Any]]] = {
    "batch_norm": _batch_norm,
    "dropout": _dropout,
    "feature_dropout": _dropout,
}
"""By operation: called with the function and its arguments, gives the output, what is kept, and a function that gives
the output again for another input."""
