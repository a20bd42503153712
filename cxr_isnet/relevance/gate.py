"""The factor y / (y + epsilon) at a ReLU output y, the only place where LRP-epsilon differs from the gradient."""

from __future__ import annotations

from torch import Tensor

from cxr_isnet.relevance.signal import times


def epsilon_gate(signal: Tensor, output: Tensor, epsilon: float) -> Tensor:
    """signal (K * B, ...) times y / (y + epsilon), for y = `output` (B, ...) >= 0; 0 where y = 0, also at epsilon = 0.

    In float32 or wider, whatever autocast made of the activations.
    """
    y = output.float() if output.dtype.itemsize < 4 else output
    if epsilon == 0:
        return times(signal, (y > 0).to(y.dtype))
    return times(signal, y / (y + epsilon))
