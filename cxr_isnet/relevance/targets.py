"""Targets: the quantity that a map explains, a function of the logits, given by its derivative at the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cxr_isnet.relevance.errors import RelevanceError

Target = Callable[[Tensor], Tensor]
"""From logits (B, classes) to the signal (K, B, classes): the derivative of K explained quantities per image."""


def per_class(logits: Tensor) -> Tensor:
    """One map per class, of its logit (original ISNet; Bassi et al. 2024, Nature Communications 15:291)."""
    classes = logits.shape[1]
    identity = torch.eye(classes, dtype=logits.dtype, device=logits.device)
    return identity[:, None, :].expand(classes, logits.shape[0], classes)


def per_class_or_highest(logits: Tensor) -> Tensor:
    """`per_class`, or `highest` where that would be more than 512 maps of each image."""
    return per_class(logits) if logits.shape[1] <= 512 else highest(logits)


def sum_of_logits(logits: Tensor) -> Tensor:
    """One map, of the sum of all logits (each map of Dual ISNet; arXiv 2401.08409)."""
    return torch.ones_like(logits)[None]


def top_probability(logits: Tensor) -> Tensor:
    """One map, of the highest probability p_c = softmax(z)_c: signal (1, B, classes), p_c (1[k = c] - p_k).

    It vanishes where the network is confident (the gradient ablation of Bassi et al. 2024, Nature Communications
    15:291).
    """
    probabilities = torch.softmax(logits, dim=1)
    top = _one_hot(logits.detach().argmax(1)[None], logits)
    return (probabilities * top[0]).sum(1, keepdim=True) * (top - probabilities)


def highest(logits: Tensor) -> Tensor:
    """One map, of the highest logit of each image."""
    return _one_hot(logits.detach().argmax(1)[None], logits)


def classes(index: Tensor | Sequence[int] | int) -> Target:
    """Maps of the logits of given classes.

    Args:
        index: int64 (B,) or (B, K), one map per column, of that class's logit; or one class, or a sequence of classes,
            for every image alike.
    """
    if isinstance(index, Tensor) and index.dim() > 0:
        columns, everywhere = index.reshape(index.shape[0], -1), False
    else:
        columns, everywhere = torch.as_tensor(index).reshape(1, -1), True

    def target(logits: Tensor) -> Tensor:
        count = logits.shape[0] if everywhere else columns.shape[0]
        if count != logits.shape[0] or int(columns.max()) >= logits.shape[1] or int(columns.min()) < 0:
            raise RelevanceError(
                f"class indices of shape {tuple(columns.shape)}, {int(columns.min())} to {int(columns.max())}, do not "
                f"fit logits of shape {tuple(logits.shape)}"
            )
        return _one_hot(columns.expand(count, -1).t(), logits)

    return target


def log_odds(logits: Tensor, index: Tensor) -> Tensor:
    """One map of eta_c = log p_c - log(1 - p_c) for class c = `index` (B,): signal (1, B, classes).

    eta_c = z_c - logsumexp of the other logits. Computed so, a confident sample keeps its map; the constant which the
    reference implementation adds inside both logarithms silences it.
    """
    chosen = _one_hot(index[None], logits)
    others = torch.softmax(logits.masked_fill(chosen[0] > 0, -torch.inf), dim=1)
    return chosen - others[None]


def selective(logits: Tensor) -> Tensor:
    """`log_odds` of the class with the lowest logit (Selective ISNet; arXiv 2401.08409)."""
    _need_two(logits)
    return log_odds(logits, logits.detach().argmin(1))


def stochastic(generator: torch.Generator | None = None, probability: float = 0.5) -> Target:
    """The highest logit with `probability`, else one of the others, sampled uniformly (Stochastic ISNet; arXiv
    2401.08409).

    Args:
        generator: on the CPU; None for torch's own.
        probability: of explaining the highest logit, sampled for every image by itself.
    """

    def target(logits: Tensor) -> Tensor:
        _need_two(logits)
        batch, count = logits.shape
        take_top = torch.rand(batch, generator=generator) < probability
        step = torch.randint(1, count, (batch,), generator=generator)
        top = logits.detach().argmax(1)
        chosen = (top + step.masked_fill(take_top, 0).to(top.device, non_blocking=True)) % count
        return _one_hot(chosen[None], logits)

    return target


def _one_hot(index: Tensor, logits: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(index.to(logits.device), logits.shape[1]).to(logits.dtype)


def _need_two(logits: Tensor) -> None:
    if logits.shape[1] < 2:
        raise RelevanceError("a network with one output has no other class to explain: use per_class")
