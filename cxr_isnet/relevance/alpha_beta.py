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
from torch import Tensor

from cxr_isnet.relevance import transposes
from cxr_isnet.relevance.epsilon import carrying_nodes, check_parts, check_rules
from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.first_layer import BoxRule, FirstLayer
from cxr_isnet.relevance.layer_rules import check_shares
from cxr_isnet.relevance.signal import check_not_negative, per_channel, times
from cxr_isnet.relevance.trace import IMAGE, Call, ForwardPass, Node, Trace, wide
from cxr_isnet.relevance.transposes import Convolution


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
    """

    call: Call
    inputs: tuple[Parts, ...]
    need_negative: bool
    weight: Tensor | None
    bias: Tensor | None


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
    positive = _apply(call.call, a.positive, plus, bias_plus)
    negative = _apply(call.call, a.positive, minus, bias_minus) if call.need_negative else None
    if a.negative is not None:
        positive = positive + _apply(call.call, a.negative, minus, None)
        if negative is not None:
            negative = negative + _apply(call.call, a.negative, plus, None)
    return Parts(positive, negative)


def _apply(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return Convolution.of(call)(x, weight, bias) if call.step.operation == "conv2d" else F.linear(x, weight, bias)


def _weighted_backward(call: SignedCall, signals: Parts) -> tuple[Parts]:
    assert call.weight is not None
    plus, minus = _split(call.weight)

    def back(signal: Tensor | None, w: Tensor) -> Tensor | None:
        if signal is None:
            return None
        if call.call.step.operation == "conv2d":
            return Convolution.of(call.call).transposed(signal, w, call.call.inputs[0].shape[2:])
        return signal @ w

    positive = _sum(back(signals.positive, plus), back(signals.negative, minus))
    negative = None
    if call.inputs[0].negative is not None:
        negative = _sum(back(signals.positive, minus), back(signals.negative, plus))
    return (Parts(cast(Tensor, positive), negative),)


def _norm_forward(call: SignedCall) -> Parts:
    (z,) = call.inputs
    affine = call.call.kept
    plus, minus = _split(per_channel(affine.scale, z.positive))
    offset_plus, offset_minus = _split(per_channel(affine.shift(), z.positive))
    positive = z.positive * plus + offset_plus
    negative = z.positive * minus + offset_minus if call.need_negative else None
    if z.negative is not None:
        positive = positive + z.negative * minus
        negative = None if negative is None else negative + z.negative * plus
    return Parts(positive, negative)


def _norm_backward(call: SignedCall, signals: Parts) -> tuple[Parts]:
    plus, minus = _split(per_channel(call.call.kept.scale, signals.positive))
    positive, negative = signals.positive * plus, signals.positive * minus
    if signals.negative is not None:
        positive, negative = positive + signals.negative * minus, negative + signals.negative * plus
    return (Parts(positive, negative),)


@dataclass(frozen=True)
class _Moving:
    """Rule of an operation that only moves or averages values: P and N pass alike."""

    transpose: transposes.Rule
    run: Callable[[SignedCall, list[Tensor]], Tensor]

    def forward(self, call: SignedCall) -> Parts:
        positive = self.run(call, [x.positive for x in call.inputs])
        if not call.need_negative or all(x.negative is None for x in call.inputs):
            return Parts(positive)
        negative = [torch.zeros_like(x.positive) if x.negative is None else x.negative for x in call.inputs]
        return Parts(positive, self.run(call, negative))

    def backward(self, call: SignedCall, signals: Parts) -> tuple[Parts, ...]:
        found = []
        for signal in (signals.positive, signals.negative):
            if signal is not None:
                parts = self.transpose(call.call, signal)
                check_parts(parts, call.call, signal)
                found.append(cast(tuple[Tensor, ...], parts))
        return tuple(Parts(*parts) for parts in zip(*found, strict=True))


def _again(call: SignedCall, tensors: list[Tensor]) -> Tensor:
    return cast(Tensor, call.call.step.again(tensors))


def _add(call: SignedCall, tensors: list[Tensor]) -> Tensor:
    if len(tensors) != 2:
        raise RelevanceError(f"'{call.call.name}' adds a constant, whose contribution LRP-alpha-beta has no rule for")
    if call.call.step.kwargs.get("alpha", 1) != 1:
        raise RelevanceError(f"'{call.call.name}' adds with a factor alpha, which LRP-alpha-beta has no rule for")
    return tensors[0] + tensors[1]


def _pick_winners(call: SignedCall, tensors: list[Tensor]) -> Tensor:
    winners: Tensor = call.call.kept
    return tensors[0].flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape)


def _drop(call: SignedCall, tensors: list[Tensor]) -> Tensor:
    return tensors[0] if call.call.kept is None else tensors[0] * call.call.kept


def _signed(moving: _Moving) -> SignedRule:
    return SignedRule(moving.forward, moving.backward)


_MOVED = """adaptive_avg_pool2d alias avg_pool2d cat chunk clone contiguous double flatten float flip getitem mean
movedim narrow permute ravel reshape roll select split squeeze sum t T to transpose unbind unflatten unsqueeze
upsample_bilinear2d upsample_nearest2d""".split()  # noqa: SIM905

ALPHA_BETA_TABLE: Mapping[Hashable, SignedRule] = {
    **{operation: _signed(_Moving(transposes.TRANSPOSES[operation], _again)) for operation in _MOVED},
    "add": _signed(_Moving(transposes.addition, _add)),
    "max_pool2d_with_indices": _signed(_Moving(transposes.max_pool, _pick_winners)),
    "dropout": _signed(_Moving(transposes.dropout, _drop)),
    "feature_dropout": _signed(_Moving(transposes.dropout, _drop)),
    "conv2d": SignedRule(_weighted_forward, _weighted_backward),
    "linear": SignedRule(_weighted_forward, _weighted_backward),
    "batch_norm": SignedRule(_norm_forward, _norm_backward),
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
        check_shares(self.alpha, self.beta)
        check_not_negative("epsilon", self.epsilon)

    def prepare(self, trace: Trace, box: BoxRule | None, wanted: frozenset[int]) -> AlphaBetaPropagation:
        """Propagation of these rules through one network; arguments and errors as for `EpsilonRules.prepare`."""
        carries = carrying_nodes(trace, set(), frozenset({IMAGE}))  # contributions come from there
        known = {node.index for node in trace.nodes if node.operation == "relu" or node.operation in self.table}
        check_rules(trace, known, carries, type(self).__name__)
        first = None if box is None else FirstLayer.find(trace, box)
        need: set[int] = {trace.output} if self.beta else set()
        for node in reversed(trace.nodes):
            if node.operation == "relu":
                need.update(node.inputs if self.beta else ())
            elif node.operation in ("conv2d", "linear", "batch_norm"):
                folded = node.operation == "batch_norm" and node.index in trace.batch_norm_of.values()
                if not folded or node.index in need:
                    need.update(node.inputs)
            elif node.index in need:
                need.update(node.inputs)
        return AlphaBetaPropagation(self, trace, first, wanted, frozenset(need), carries)


@dataclass(frozen=True)
class AlphaBetaPropagation:
    """`AlphaBetaRules` prepared for one network: contributions forward, then the backward pass of relevance."""

    rules: AlphaBetaRules
    trace: Trace
    first_layer: FirstLayer | None
    wanted: frozenset[int]
    need_negative: frozenset[int]
    carries: frozenset[int]

    def __call__(self, run: ForwardPass, seed: Tensor) -> dict[int, Tensor]:
        """Relevance of the steps in `wanted`.

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
        for node in reversed(trace.nodes):
            signal = signals.pop(node.index, None)
            if signal is None:
                continue
            if node.index in self.wanted:
                found[node.index] = _relevance(signal, parts[node.index])
            if self.first_layer is not None and node.index == self.first_layer.last:
                found[IMAGE] = self.first_layer.relevance(run, _relevance(signal, parts[node.index]))
                break
            if node.index == IMAGE:
                break
            for source, part in zip(node.inputs, self._back(calls[node.index], node, signal), strict=True):
                signals[source] = signals[source].add(part) if source in signals else part
        return found

    def _back(self, call: SignedCall, node: Node, signal: Parts) -> tuple[Parts, ...]:
        if node.operation == "relu":
            return (self._share(signal.positive, call.call.output, call.inputs[0], self.rules.epsilon),)
        if node.index in self.trace.batch_norm_of.values():
            return (signal,)  # multiplied into the convolution's weight
        return self.rules.table[node.operation].backward(call, signal)

    def _share(self, signal: Tensor, output: Tensor, z: Parts, epsilon: float) -> Parts:
        """Shares of P and N in the relevance of an output of theirs; where P or N is 0 there is nothing to share."""
        positive = times(signal, self.rules.alpha * _ratio(output, z.positive, epsilon))
        if not self.rules.beta or z.negative is None:
            return Parts(positive)
        return Parts(positive, times(signal, -self.rules.beta * _ratio(output, -z.negative, epsilon)))

    def _contributions(self, run: ForwardPass) -> tuple[dict[int, SignedCall], dict[int, Parts]]:
        calls: dict[int, SignedCall] = {}
        image = wide(run.values[IMAGE])
        parts: dict[int, Parts] = {IMAGE: Parts(image.clamp(min=0), image.clamp(max=0))}
        for node in self.trace.nodes[1:]:
            if node.index not in self.carries or any(i not in parts for i in node.inputs):
                continue
            value = wide(run.values[node.index])
            call = self._call(run, node, parts)
            calls[node.index] = call
            if node.operation == "relu":
                parts[node.index] = Parts(value)
            elif node.index in self.trace.batch_norm_of.values():
                parts[node.index] = call.inputs[0]
            elif self.first_layer is not None and node.index in (self.first_layer.conv, self.first_layer.norm):
                parts[node.index] = Parts(value)  # not used: z^B takes over at the ReLU behind
            elif node.operation in self.rules.table:
                parts[node.index] = self.rules.table[node.operation].forward(call)
        return calls, parts

    def _call(self, run: ForwardPass, node: Node, parts: Mapping[int, Parts]) -> SignedCall:
        norm = self.trace.batch_norm_of.get(node.index)
        need = (node.index if norm is None else norm) in self.need_negative
        weight = bias = None
        if node.operation in ("conv2d", "linear"):
            weight, bias, _ = run.call(node.index, norm_behind=norm).affine()
        carries = tuple(True for _ in node.inputs)
        call = run.call(node.index, node.name, epsilon=self.rules.epsilon, carries=carries)
        return SignedCall(call, tuple(parts[i] for i in node.inputs), need, weight, bias)


def _relevance(signal: Parts, parts: Parts) -> Tensor:
    relevance = times(signal.positive, parts.positive)
    if signal.negative is None or parts.negative is None:
        return relevance
    return relevance + times(signal.negative, parts.negative)


def _ratio(output: Tensor, part: Tensor, epsilon: float) -> Tensor:
    """y / (part + epsilon), 0 where part = 0 at epsilon = 0; float32 or wider, whatever autocast made of them."""
    y, total = wide(output), wide(part)
    if epsilon == 0:
        return torch.where(total > 0, y / torch.where(total > 0, total, torch.ones_like(total)), torch.zeros_like(y))
    return y / (total + epsilon)
