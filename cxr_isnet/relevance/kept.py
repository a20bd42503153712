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


def _attention(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None, Any]:
    """Scaled dot product attention and its weights after dropout; None without dropout."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if not given.get("dropout_p"):
        return func(*args, **kwargs), None, func
    # what torch's kernels that drop do not tell: the form that it has for all devices draws as they do on the CPU
    output, dropped = torch._scaled_dot_product_attention_math(**given)
    return output, dropped, _Dropped((dropped != 0).to(dropped.dtype) / (1 - given["dropout_p"]), names)


@dataclass(frozen=True)
class _Dropped:
    """Attention with the same weights dropped."""

    factors: Tensor
    names: tuple[str, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        given = {**dict(zip(self.names, args, strict=False)), **kwargs, "dropout_p": 0.0}
        weights = torch._scaled_dot_product_attention_math(**given)[1]
        attended: Tensor = weights * self.factors @ given["value"]
        return attended


KEEPING: Mapping[str, Callable[..., tuple[Tensor, Any, Any]]] = {
    "batch_norm": _batch_norm,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "scaled_dot_product_attention": _attention,
}
"""By operation: called with the function and its arguments, gives the output, what is kept, and a function that gives
the output again for another input."""
