"""The factor y / (y + epsilon) at a ReLU output y, the only place where LRP-epsilon differs from the gradient.

It acts on every activation of the network, so passes over memory count here and nowhere else. Autograd would keep y +
epsilon and the factor beside y and the signal; `_EpsilonGate` keeps only the two that exist anyway and works them out
again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cxr_isnet.relevance.signal import times


def epsilon_gate(signal: Tensor, output: Tensor, epsilon: float) -> Tensor:
    """signal (K * B, ...) times y / (y + epsilon), for y = `output` (B, ...) >= 0; 0 where y = 0, also at epsilon = 0.

    In float32 or wider, whatever autocast made of the activations.
    """
    y = output.float() if output.dtype.itemsize < 4 else output
    if epsilon == 0:
        return times(signal, (y > 0).to(y.dtype))
    gated: Tensor = _EpsilonGate.apply(signal.to(y.dtype), y, epsilon)
    return gated


class _EpsilonGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, y: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(signal, y)
        ctx.epsilon = epsilon
        return times(signal, (y + epsilon).reciprocal_().mul_(y))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        signal, y = ctx.saved_tensors
        inverse = 1 / (y + ctx.epsilon)
        shared = times(gradient, inverse)
        to_y = None
        if ctx.needs_input_grad[1]:
            to_y = (shared * signal).unflatten(0, (-1, y.shape[0])).sum(0) * inverse * ctx.epsilon
        return times(shared, y), to_y, None
