"""LRP-alpha-beta, and z+ as its case alpha = 1, beta = 0 (Bach et al. 2015; Montavon et al. 2017).

Every pre-activation z is the sum of its positive contributions P and its negative ones N. At a ReLU with output y the
relevance y * G is shared out as alpha to P and beta to N:

    R_j = alpha * sum_k (a+ w+ + a- w-)_jk R_k / (P_k + epsilon) + beta * sum_k (a+ w- + a- w+)_jk R_k / (N_k - epsilon)

So the backward pass carries two signals, H_P and H_N, for the two linear maps that produce P and N. A batch norm behind
a convolution is multiplied into its weight first. One that reads a concatenation cannot be: it takes P and N of its
inputs and swaps them where its factor is negative, which equals multiplying it into each producer. A sum adds the
contributions of both branches, so a residual branch needs no rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.relevance import transposes
from cxr_isnet.relevance.epsilon import check_table
from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.first_layer import FirstLayer
from cxr_isnet.relevance.forward import AffineNorm, ForwardPass, fused_bias, fused_weight, run_step
from cxr_isnet.relevance.signal import per_channel, times
from cxr_isnet.relevance.trace import Call, Step, Trace


@dataclass(frozen=True)
class Parts:
    """Something split by sign of contribution; `negative` is None where it is zero or not needed."""

    positive: Tensor
    negative: Tensor | None = None

    def add(self, other: Parts) -> Parts:
        """Sum of both, sign by sign."""
        return Parts(self.positive + other.positive, _sum(self.negative, other.negative))


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


@dataclass(frozen=True)
class SignedCall:
    """Input of a `SignedRule`: one step of a forward pass with the contributions to its tensor inputs.

    Attributes:
        call: the step as any rule gets it.
        inputs: parts (B, ...) of each tensor input.
        need_negative: whether N of the output is needed later.
        weight: of a convolution or linear layer, with the batch norm behind it multiplied in.
        bias: likewise, or None.
        again: runs the step on other tensors in place of its tensor inputs.
    """

    call: Call
    inputs: tuple[Parts, ...]
    need_negative: bool
    weight: Tensor | None
    bias: Tensor | None
    again: Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class SignedRule:
    """Rule of one operation: contributions forward, signals backward.

    Attributes:
        forward: call -> parts of the output (B, ...).
        backward: call, signals at the output -> signals (K * B, ...) at each tensor input.
    """

    forward: Callable[[SignedCall], Parts]
    backward: Callable[[SignedCall, Parts], tuple[Parts, ...]]


def _split(weight: Tensor) -> tuple[Tensor, Tensor]:
    return weight.clamp(min=0), weight.clamp(max=0)


def _weighted_forward(call: SignedCall) -> Parts:
    assert call.weight is not None
    plus, minus = _split(call.weight)
    bias_plus, bias_minus = (None, None) if call.bias is None else _split(call.bias)
    (a,) = call.inputs
    positive = _apply(call.call.step.module, a.positive, plus, bias_plus)
    negative = _apply(call.call.step.module, a.positive, minus, bias_minus) if call.need_negative else None
    if a.negative is not None:
        positive = positive + _apply(call.call.step.module, a.negative, minus, None)
        if negative is not None:
            negative = negative + _apply(call.call.step.module, a.negative, plus, None)
    return Parts(positive, negative)


def _apply(module: nn.Module | None, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(module, nn.Conv2d):
        padding = cast(tuple[int, int], module.padding)
        return F.conv2d(x, weight, bias, module.stride, padding, module.dilation, module.groups)
    return F.linear(x, weight, bias)


def _weighted_backward(call: SignedCall, signals: Parts) -> tuple[Parts]:
    assert call.weight is not None
    plus, minus = _split(call.weight)

    def back(signal: Tensor | None, w: Tensor) -> Tensor | None:
        if signal is None:
            return None
        if isinstance(call.call.step.module, nn.Conv2d):
            return transposes.convolution(call.call.step.module, signal, w, call.call.inputs[0].shape[2:])
        return signal @ w

    positive = _sum(back(signals.positive, plus), back(signals.negative, minus))
    negative = None
    if call.inputs[0].negative is not None:
        negative = _sum(back(signals.positive, minus), back(signals.negative, plus))
    return (Parts(cast(Tensor, positive), negative),)


def _norm_forward(call: SignedCall) -> Parts:
    (z,) = call.inputs
    affine = cast(AffineNorm, call.call.kept)
    bias = cast(nn.BatchNorm2d, call.call.step.module).bias
    plus, minus = _split(per_channel(affine.scale, z.positive))
    offset = -affine.mean * affine.scale if bias is None else bias - affine.mean * affine.scale
    offset_plus, offset_minus = _split(per_channel(offset, z.positive))
    positive = z.positive * plus + offset_plus
    negative = z.positive * minus + offset_minus if call.need_negative else None
    if z.negative is not None:
        positive = positive + z.negative * minus
        negative = None if negative is None else negative + z.negative * plus
    return Parts(positive, negative)


def _norm_backward(call: SignedCall, signals: Parts) -> tuple[Parts]:
    plus, minus = _split(per_channel(cast(AffineNorm, call.call.kept).scale, signals.positive))
    positive, negative = signals.positive * plus, signals.positive * minus
    if signals.negative is not None:
        positive, negative = positive + signals.negative * minus, negative + signals.negative * plus
    return (Parts(positive, negative),)


def _moving(rule: transposes.Rule, move: Callable[[SignedCall, list[Tensor]], Tensor] | None = None) -> SignedRule:
    """Rule of an operation that only moves or averages values: P and N pass alike."""
    run = move or (lambda call, tensors: call.again(tensors))

    def forward(call: SignedCall) -> Parts:
        positive = run(call, [x.positive for x in call.inputs])
        if not call.need_negative or all(x.negative is None for x in call.inputs):
            return Parts(positive)
        return Parts(
            positive,
            run(
                call,
                [torch.zeros_like(x.positive) if x.negative is None else x.negative for x in call.inputs],
            ),
        )

    def backward(call: SignedCall, signals: Parts) -> tuple[Parts, ...]:
        positive = rule(call.call, signals.positive)
        if signals.negative is None:
            return tuple(Parts(p) for p in positive)
        return tuple(Parts(p, n) for p, n in zip(positive, rule(call.call, signals.negative), strict=True))

    return SignedRule(forward, backward)


def _pick_winners(call: SignedCall, tensors: list[Tensor]) -> Tensor:
    winners: Tensor = call.call.kept
    return tensors[0].flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)


def _drop(call: SignedCall, tensors: list[Tensor]) -> Tensor:
    return tensors[0] if call.call.kept is None else tensors[0] * call.call.kept


ALPHA_BETA_TABLE: Mapping[Hashable, SignedRule] = {
    **{operation: _moving(rule) for operation, rule in transposes.TRANSPOSES.items()},
    nn.MaxPool2d: _moving(transposes.max_pool, _pick_winners),
    nn.Dropout: _moving(transposes.dropout, _drop),
    nn.Dropout2d: _moving(transposes.dropout, _drop),
    nn.Conv2d: SignedRule(_weighted_forward, _weighted_backward),
    nn.Linear: SignedRule(_weighted_forward, _weighted_backward),
    nn.BatchNorm2d: SignedRule(_norm_forward, _norm_backward),
}


class AlphaBetaStart(Enum):
    """What a map of LRP-alpha-beta explains, for a target that is the derivative of a quantity by the logits.

    LOGIT: the quantity: the relevance at a logit z is z times the derivative, and is shared out as alpha z / P to its
        positive contributions and beta z / N to its negative ones, as at any other pre-activation (Bach et al. 2015).
    CONTRIBUTIONS: alpha P + beta N: the relevance of all positive contributions to the logits is that of z+ in Dual
        ISNet (arXiv 2401.08409), whose maps are never negative.
    """

    LOGIT = "logit"
    CONTRIBUTIONS = "contributions"


@dataclass(frozen=True)
class AlphaBetaRules:
    """LRP-alpha-beta; the defaults are z+.

    Attributes:
        alpha: share of the positive contributions, alpha + beta = 1.
        beta: share of the negative ones, <= 0.
        epsilon: stabiliser of both denominators at ReLUs, >= 0; none acts at the logits, as with `EpsilonRules`.
        table: operation -> `SignedRule`. A ReLU needs none: it is where relevance is shared out.
        start: what a map explains.
    """

    alpha: float = 1.0
    beta: float = 0.0
    epsilon: float = 1e-2
    table: Mapping[Hashable, SignedRule] = field(default_factory=lambda: ALPHA_BETA_TABLE)
    start: AlphaBetaStart = AlphaBetaStart.LOGIT

    def __post_init__(self) -> None:
        if abs(self.alpha + self.beta - 1) > 1e-9 or self.beta > 0:
            raise RelevanceError(f"alpha={self.alpha}, beta={self.beta}: alpha + beta must be 1 and beta at most 0")
        if self.epsilon < 0:
            raise RelevanceError(f"epsilon is {self.epsilon}; it must be 0 or more")

    def prepare(self, trace: Trace, first_layer: FirstLayer | None, layers: frozenset[int]) -> AlphaBetaPropagation:
        """Propagation of these rules through one network; arguments and errors as for `EpsilonRules.prepare`."""
        check_table(trace, {**self.table, nn.ReLU: None}, type(self).__name__)
        need: set[int] = {trace.output} if self.beta else set()
        for step in reversed(trace.steps):
            if step.operation is nn.ReLU:
                need.update(step.inputs if self.beta else ())
            elif step.operation in (nn.Conv2d, nn.Linear, nn.BatchNorm2d):
                folded = step.operation is nn.BatchNorm2d and step.index in trace.batch_norm_of.values()
                if not folded or step.index in need:
                    need.update(step.inputs)
            elif step.index in need:
                need.update(step.inputs)
        return AlphaBetaPropagation(self, trace, first_layer, layers, frozenset(need))


@dataclass(frozen=True)
class AlphaBetaPropagation:
    """`AlphaBetaRules` prepared for one network: contributions forward, then the backward pass of relevance."""

    rules: AlphaBetaRules
    trace: Trace
    first_layer: FirstLayer | None
    layers: frozenset[int]
    need_negative: frozenset[int]

    def __call__(self, run: ForwardPass, seed: Tensor) -> dict[int, Tensor]:
        """Relevance of the image and of the steps in `layers`.

        Args:
            run: a forward pass.
            seed: (K * B, classes), derivative of the explained quantities by the logits.

        Returns:
            (K * B, C, H, W) by index of the step.
        """
        calls, parts = self._contributions(run)
        rules, trace = self.rules, self.trace
        if rules.start is AlphaBetaStart.LOGIT:
            signals = {trace.output: self._share(seed, run.logits, parts[trace.output], 0.0)}
        else:
            signals = {trace.output: Parts(rules.alpha * seed, rules.beta * seed if rules.beta else None)}
        found: dict[int, Tensor] = {}
        for step in reversed(trace.steps):
            signal = signals.pop(step.index, None)
            if signal is None:
                continue
            if step.index in self.layers or step.index == trace.image:
                found[step.index] = _relevance(signal, parts[step.index])
            if self.first_layer is not None and step.index == self.first_layer.last:
                found[trace.image] = self.first_layer.relevance(run, _relevance(signal, parts[step.index]))
                break
            if step.index == trace.image:
                break
            for source, part in zip(
                run.tensor_inputs(step), self._back(run, calls[step.index], signal, parts), strict=True
            ):
                signals[source] = signals[source].add(part) if source in signals else part
        return found

    def _back(self, run: ForwardPass, call: SignedCall, signal: Parts, parts: Mapping[int, Parts]) -> tuple[Parts, ...]:
        step = call.call.step
        if step.operation is nn.ReLU:
            return (self._share(signal.positive, call.call.output, call.inputs[0], self.rules.epsilon),)
        if step.index in self.trace.batch_norm_of.values():
            return (signal,)  # multiplied into the convolution's weight
        return self.rules.table[step.operation].backward(call, signal)

    def _share(self, signal: Tensor, output: Tensor, z: Parts, epsilon: float) -> Parts:
        """Shares of P and N in the relevance of an output of theirs; where P or N is 0 there is nothing to share."""
        positive = times(signal, self.rules.alpha * _ratio(output, z.positive, epsilon))
        if not self.rules.beta or z.negative is None:
            return Parts(positive)
        return Parts(positive, times(signal, -self.rules.beta * _ratio(output, -z.negative, epsilon)))

    def _contributions(self, run: ForwardPass) -> tuple[dict[int, SignedCall], dict[int, Parts]]:
        calls: dict[int, SignedCall] = {}
        parts: dict[int, Parts] = {}
        for step in self.trace.steps:
            value = run.values[step.index]
            if step.index == self.trace.image:
                parts[step.index] = Parts(value.clamp(min=0), value.clamp(max=0))
            if step.index == self.trace.image or not set(step.inputs) & parts.keys() or not isinstance(value, Tensor):
                continue
            call = self._call(run, step, parts)
            calls[step.index] = call
            if step.operation is nn.ReLU:
                parts[step.index] = Parts(value)
            elif step.index in self.trace.batch_norm_of.values():
                parts[step.index] = call.inputs[0]
            elif self.first_layer is None or step.index not in (self.first_layer.conv, self.first_layer.norm):
                parts[step.index] = self.rules.table[step.operation].forward(call)
            else:
                parts[step.index] = Parts(value)  # not used: z^B takes over at the ReLU behind
        return calls, parts

    def _call(self, run: ForwardPass, step: Step, parts: Mapping[int, Parts]) -> SignedCall:
        sources = run.tensor_inputs(step)

        def again(tensors: list[Tensor]) -> Tensor:
            values = {i: run.values[i] for i in step.inputs} | dict(zip(sources, tensors, strict=True))
            return cast(Tensor, run_step(step, values)[0])

        norm = self.trace.batch_norm_of.get(step.index)
        need = (step.index if norm is None else norm) in self.need_negative
        weight, bias = _with_batch_norm(run, step, norm)
        call = run.call(step, epsilon=self.rules.epsilon)
        return SignedCall(call, tuple(parts[i] for i in sources), need, weight, bias, again)


def _with_batch_norm(run: ForwardPass, step: Step, norm: int | None) -> tuple[Tensor | None, Tensor | None]:
    if not isinstance(step.module, nn.Conv2d | nn.Linear):
        return None, None
    return step.module.weight if norm is None else fused_weight(run, step, norm), fused_bias(run, step, norm)


def _relevance(signal: Parts, parts: Parts) -> Tensor:
    relevance = times(signal.positive, parts.positive)
    if signal.negative is None or parts.negative is None:
        return relevance
    return relevance + times(signal.negative, parts.negative)


def _ratio(output: Tensor, part: Tensor, epsilon: float) -> Tensor:
    """y / (part + epsilon), 0 where part = 0 at epsilon = 0; float32 or wider, whatever autocast made of them."""
    y, total = (x.float() if x.dtype.itemsize < 4 else x for x in (output, part))
    if epsilon == 0:
        return torch.where(total > 0, y / torch.where(total > 0, total, torch.ones_like(total)), torch.zeros_like(y))
    return y / (total + epsilon)
