"""Rules of a convolution or linear layer by itself: epsilon, alpha-beta, z+, gamma.

Each shares the relevance R_k = z_k G_k of the layer's output z, its batch norm included, out among the inputs x. With
x+, x-, w+, w- the parts by sign, and a stabiliser at every denominator:

    epsilon     R_j = sum_k x_j w_jk R_k / z_k
    alpha-beta  R_j = alpha sum_k (x+ w+ + x- w-)_jk R_k / P_k + beta sum_k (x+ w- + x- w+)_jk R_k / N_k,
                P_k and N_k the sums of the same with the positive and the negative part of the bias
    gamma       R_j = sum_k (x+ (w + gamma w+) + x- (w + gamma w-))_jk R_k / (sum_j the same) where z_k > 0, and with
                w+ and w- exchanged where z_k < 0

None is a rule for a network as a whole, so a set of rules that has them takes epsilon 0 elsewhere.

Source:
    Bach et al., PLoS ONE 10(7), 2015 (epsilon, alpha-beta); Montavon et al., in Explainable AI, LNCS 11700, 2019
    (gamma, and which rule where); for inputs of both signs as zennit has it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.signal import check_not_negative, inverse, times
from cxr_isnet.relevance.trace import Call, wide
from cxr_isnet.relevance.transposes import Convolution

CONVOLUTIONS: tuple[Hashable, ...] = (
    *("conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
LAYERS: tuple[Hashable, ...] = (*CONVOLUTIONS, "linear")
"""Operations that have a weight, whose relevance rules of this module share out."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer with the batch norm behind it multiplied in.

    Attributes:
        call: the step as any rule gets it.
        x: its input (B, ...).
        weight: of the layer.
        bias: likewise, or None.
        output: z, (B, ...).
    """

    call: Call
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    output: Tensor

    @classmethod
    def of(cls, call: Call) -> Layer:
        """That of a step; raises `RelevanceError` if its weight depends on the image."""
        if len(call.inputs) != 1:
            raise RelevanceError(f"'{call.name}' has a weight made of the image, for which this rule is not")
        return cls(call, wide(call.inputs[0]), *call.affine())

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer with another input, weight and bias."""
        step = self.call.step
        output: Tensor = step.function(x, weight, bias, *step.args[3:], **_without(step.kwargs))
        return output

    def back(self, signal: Tensor, weight: Tensor) -> Tensor:
        """Signal (K * B, ...) at the output through the transpose of another weight."""
        if self.call.step.operation == "conv2d" and self.x.dim() == 4:
            return Convolution.of(self.call).transposed(signal, weight, self.x.shape[2:])
        if self.call.step.operation == "linear":
            return signal @ weight
        transpose = torch.func.vjp(lambda x: self.apply(x, weight), self.x)[1]
        return torch.cat([transpose(m)[0] for m in signal.unflatten(0, (-1, self.x.shape[0])).unbind(0)])


def _without(settings: object) -> dict[str, object]:
    return {key: value for key, value in dict(settings).items() if key not in ("input", "weight", "bias")}  # type: ignore[call-overload]


@dataclass(frozen=True)
class LayerRule(ABC):
    """Rule of a convolution or linear layer.

    Attributes:
        epsilon: stabiliser of the denominators, in units of the layer's output, >= 0.
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_not_negative("epsilon", self.epsilon)

    def __call__(self, call: Call, signal: Tensor) -> tuple[Tensor]:
        layer = Layer.of(call)
        return (self.share(layer, signal),)

    @abstractmethod
    def share(self, layer: Layer, signal: Tensor) -> Tensor:
        """Signal (K * B, ...) at the layer's input."""


@dataclass(frozen=True)
class EpsilonRule(LayerRule):
    """By all contributions, the stabiliser absorbing what is small."""

    def share(self, layer: Layer, signal: Tensor) -> Tensor:
        damped = times(signal, layer.output * inverse(layer.output, self.epsilon))
        return layer.back(damped, layer.weight)


def check_shares(alpha: float, beta: float) -> None:
    """Raises `RelevanceError` for shares that are none of LRP-alpha-beta."""
    if abs(alpha + beta - 1) > 1e-9 or beta > 0:
        raise RelevanceError(f"alpha={alpha}, beta={beta}: alpha + beta must be 1 and beta at most 0")


@dataclass(frozen=True)
class AlphaBetaRule(LayerRule):
    """By positive and negative contributions apart; by default z+, the positive alone.

    Attributes:
        alpha: share of the positive contributions, alpha + beta = 1.
        beta: share of the negative ones, <= 0.
    """

    alpha: float = 1.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.alpha, self.beta)

    def share(self, layer: Layer, signal: Tensor) -> Tensor:
        plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        received = times(signal, self.alpha * layer.output)
        found = _contribute(layer, received, plus, minus, _clamp(layer.bias, 0.0, None), self.epsilon)
        if self.beta:
            received = times(signal, self.beta * layer.output)
            found = found + _contribute(layer, received, minus, plus, _clamp(layer.bias, None, 0.0), self.epsilon)
        return found


@dataclass(frozen=True)
class GammaRule(LayerRule):
    """By all contributions, those of the output's own sign strengthened.

    Attributes:
        gamma: by how much, >= 0; 0 is the epsilon rule, infinity z+.
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("gamma", self.gamma)

    def share(self, layer: Layer, signal: Tensor) -> Tensor:
        weight, bias, gamma = layer.weight, layer.bias, self.gamma
        plus, minus = weight + gamma * weight.clamp(min=0), weight + gamma * weight.clamp(max=0)
        above = None if bias is None else bias + gamma * bias.clamp(min=0)
        below = None if bias is None else bias + gamma * bias.clamp(max=0)
        where_positive, where_negative = layer.output.clamp(min=0), layer.output.clamp(max=0)
        return _contribute(layer, times(signal, where_positive), plus, minus, above, self.epsilon) + _contribute(
            layer, times(signal, where_negative), minus, plus, below, self.epsilon
        )


def _contribute(
    layer: Layer, received: Tensor, of_positive: Tensor, of_negative: Tensor, bias: Tensor | None, epsilon: float
) -> Tensor:
    """Relevance (K * B, ...) at the output by the contributions of positive inputs, through one weight, and of negative
    inputs, through another; as the signal at the input."""
    positive = layer.apply(layer.x.clamp(min=0), of_positive, bias)
    total = positive + layer.apply(layer.x.clamp(max=0), of_negative)
    shared = times(received, inverse(total, epsilon))
    is_positive = (layer.x >= 0).to(layer.x.dtype)
    to_positive = times(layer.back(shared, of_positive), is_positive)
    return to_positive + times(layer.back(shared, of_negative), 1 - is_positive)


def _clamp(bias: Tensor | None, low: float | None, high: float | None) -> Tensor | None:
    return None if bias is None else bias.clamp(low, high)
