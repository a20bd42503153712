"""LRP-epsilon: the table of rules and the propagation of relevance from the logits to the image.

The signal G, with relevance R = a * G at any activation a, is carried backward. For a ReLU network LRP-epsilon then is
the transposed network with the factor y / (y + epsilon) at every ReLU output y (LRP-Flex; Bassi, Decherchi, Cavalli
2024, arXiv 2401.08409): in the linear map z between two ReLUs R_in = a * W^T(R_out / (z + epsilon sign z)), and R_out =
z * G where z > 0, and 0 elsewhere. Biases absorb their share of relevance. With epsilon = 0 this is gradient times
input.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from cxr_isnet.relevance.errors import OWN_MODULE, MissingRuleError, RelevanceError, UnfitRuleError
from cxr_isnet.relevance.first_layer import BoxRule, FirstLayer, FirstRule
from cxr_isnet.relevance.layer_rules import LayerRule
from cxr_isnet.relevance.nonlinear import NONLINEAR, attention, constant_attention, gate, softmax
from cxr_isnet.relevance.places import AnyRule, choose_rules
from cxr_isnet.relevance.signal import check_not_negative, inverse, per_channel, times
from cxr_isnet.relevance.trace import IMAGE, Call, ForwardPass, Node, Trace, wide
from cxr_isnet.relevance.transposes import TRANSPOSES, Convolution, Rule


def convolution(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Transposed convolution; batch norms next to it are multiplied into the weight, far smaller than a map."""
    if call.inputs[0].dim() != 4 or len(call.inputs) > 1:
        raise RelevanceError(
            f"'{call.name}' convolves something else than a batch of images with a fixed weight. {OWN_MODULE}"
        )
    weight = call.argument(1, "weight")
    if call.norm_behind is not None:
        weight = weight * call.norm_behind.scale[:, None, None, None]
    if call.norm_before is not None:
        groups = call.argument(6, "groups", 1)
        scale = call.norm_before.scale.reshape(groups, 1, -1, 1, 1)
        weight = (weight.unflatten(0, (groups, -1)) * scale).flatten(0, 1)
    return (Convolution.of(call).transposed(signal, weight, call.inputs[0].shape[2:]),)


def linear(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Product with the weight (C_out, C_in), a batch norm behind it multiplied in."""
    if len(call.inputs) > 1:
        raise RelevanceError(f"'{call.name}' is linear with a weight made of the image: write it as a matrix product")
    weight = call.argument(1, "weight")
    return (signal @ (weight if call.norm_behind is None else weight * call.norm_behind.scale[:, None]),)


def batch_norm(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Factor of each channel; the shift absorbs its share of relevance."""
    return (signal * per_channel(call.kept.scale, signal),)


EPSILON_TABLE: Mapping[Hashable, Rule] = {
    **TRANSPOSES,
    **NONLINEAR,
    "conv2d": convolution,
    "linear": linear,
    "batch_norm": batch_norm,
}
"""Rule of every operation, by its name in ATen. A gate lets no relevance through (`gate`)."""
STOCK = frozenset(EPSILON_TABLE.values())
"""The rules of this package."""


class EpsilonPoints(Enum):
    """Where relevance is damped by z / (z + epsilon sign z).

    RELU: at ReLU outputs (LRP-Flex).
    REFERENCE: there, at the logits, at pooled features that no batch norm reads, and at the operands of a sum, as the
        reference implementation of the Nature Communications paper places them.
    """

    RELU = "relu"
    REFERENCE = "reference"


@dataclass(frozen=True)
class EpsilonRules:
    """LRP-epsilon as a set of rules.

    Attributes:
        epsilon: stabiliser in units of the activations, >= 0; typical 1e-2. An activation well below it is silenced.
        points: where epsilon acts.
        table: operation, class of modules or place (`At`) -> rule. To give a module of your own a rule:
            ``table={**EPSILON_TABLE, MyModule: my_rule}``, with ``my_rule(call, signal)`` returning the signal
            (K * B, ...) at each tensor input. To give an operation another one, take its name in ATen as the key:
            ``{**EPSILON_TABLE, "softmax": gate}``. To give some layers another one: ``{**EPSILON_TABLE,
            At("features.*"): GammaRule(), At(depth=0): FlatRule()}``; of several that fit, the last holds.
    """

    epsilon: float = 1e-2
    points: EpsilonPoints = EpsilonPoints.RELU
    table: Mapping[Hashable, AnyRule] = field(default_factory=lambda: EPSILON_TABLE)

    def __post_init__(self) -> None:
        check_not_negative("epsilon", self.epsilon)

    def prepare(self, trace: Trace, box: BoxRule | None, wanted: frozenset[int]) -> EpsilonPropagation:
        """Propagation of these rules through one network.

        Args:
            trace: the network.
            box: rule of the layer that reads the image, where the table has none of its own for it; or None.
            wanted: nodes whose relevance is wanted; what lies below the last of them needs no rules.

        Raises:
            MissingRuleError: if relevance would pass a node that the table does not know.
            RelevanceError: if a rule of the first layer is given to another, or one of softmaxes would be left out
                inside an attention.
        """
        rules = _with_their_softmax(trace, choose_rules(trace, self.table), self.table)
        gates = {index for index, rule in rules.items() if rule is gate}
        carries = carrying_nodes(trace, gates, wanted)
        check_rules(trace, rules, carries, type(self).__name__)
        first = _first_layer(trace, rules, box) if IMAGE in wanted else None
        folds = fold_batch_norms(trace, rules, wanted)
        points = _reference_points(trace) if self.points is EpsilonPoints.REFERENCE else frozenset()
        return EpsilonPropagation(self, trace, rules, first, wanted, folds, points, carries)


@dataclass(frozen=True)
class EpsilonPropagation:
    """`EpsilonRules` prepared for one network: the backward pass of relevance through the steps of a forward pass."""

    settings: EpsilonRules
    trace: Trace
    rules: Mapping[int, AnyRule]
    first_layer: FirstLayer | None
    wanted: frozenset[int]
    folds: Folds
    points: frozenset[int]
    carries: frozenset[int]

    def __call__(self, run: ForwardPass, seed: Tensor) -> dict[int, Tensor]:
        """Relevance of the steps in `wanted`.

        Args:
            run: a forward pass.
            seed: (K * B, classes), the signal at the logits.

        Returns:
            (K * B, C, H, W) by index of the step.
        """
        signals = {self.trace.output: seed}
        found: dict[int, Tensor] = {}
        for node in reversed(self.trace.nodes):
            signal = signals.pop(node.index, None)
            if signal is None:
                continue
            output = run.values[node.index]
            if node.index in self.wanted:
                found[node.index] = times(signal, wide(output))
            if self.first_layer is not None and node.index == self.first_layer.last:
                found[IMAGE] = self.first_layer.relevance(run, times(signal, wide(output)))
                break
            if not self.carries.intersection(node.inputs):
                continue
            for source, part in zip(node.inputs, self._parts(run, node, signal), strict=True):
                if part is not None and source in self.carries:
                    signals[source] = signals[source] + part if source in signals else part
        for index in self.wanted - found.keys():  # nothing reaches it
            found[index] = seed.new_zeros(seed.shape[0], *run.values[index].shape[1:])
        return found

    def _parts(self, run: ForwardPass, node: Node, signal: Tensor) -> tuple[Tensor | None, ...]:
        output = run.values[node.index]
        if node.index in self.points:
            signal = times(signal, wide(output) * inverse(wide(output), self.settings.epsilon))
        if node.index in self.folds:
            return (signal,)
        before = self.folds.before.get(node.index)
        call = run.call(
            node.index,
            node.name,
            self.folds.behind.get(node.index),
            epsilon=self.settings.epsilon,
            carries=tuple(i in self.carries for i in node.inputs),
            norm_before=None if before is None else run.kept[before],
        )
        rule = self.rules[node.index]
        assert not isinstance(rule, FirstRule)
        try:
            parts = rule(call, signal)
        except (RelevanceError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if rule not in STOCK:
                raise  # the user's own
            raise UnfitRuleError(node.operation, node.name, error) from error
        check_parts(parts, call, signal)
        return parts


def check_parts(parts: object, call: Call, signal: Tensor) -> None:
    """Check what a rule returned; raises `RelevanceError` in words."""
    if not isinstance(parts, tuple | list) or len(parts) != len(call.inputs):
        got = f"{len(parts)} values" if isinstance(parts, tuple | list) else f"a {type(parts).__name__}"
        raise RelevanceError(
            f"the rule of '{call.name}' returned {got}; needed: a tuple with one signal for each of its "
            f"{len(call.inputs)} inputs, as return (signal,)"
        )
    maps = signal.shape[0] // call.output.shape[0]
    for part, x in zip(parts, call.inputs, strict=True):
        wanted = (maps * x.shape[0], *x.shape[1:])
        if isinstance(part, Tensor) and tuple(part.shape) != wanted:
            raise RelevanceError(
                f"the rule of '{call.name}' returned a signal of shape {tuple(part.shape)}; needed: {wanted}, that "
                f"of the input with its first dimension taken {maps} times, once for every map"
            )


def relevant_inputs(node: Node) -> tuple[int, ...]:
    """Inputs that relevance goes on to: of a quotient the dividend."""
    return node.inputs[:1] if node.operation == "div" else node.inputs


def _with_their_softmax(
    trace: Trace, rules: dict[int, AnyRule], table: Mapping[Hashable, AnyRule]
) -> dict[int, AnyRule]:
    """The rules, those of fused attention by the table's rule of the softmax inside it."""
    for index, inner in choose_rules(trace, table, {"scaled_dot_product_attention": "softmax"}).items():
        if rules.get(index) is not attention or inner is softmax:
            continue
        if inner is not gate:
            raise RelevanceError(
                f"the table's rule of softmaxes is not that of the one inside '{trace.nodes[index].name}', which is a "
                'single operation there: give "scaled_dot_product_attention" a rule too, or write attention out'
            )
        rules[index] = constant_attention
    return rules


def _first_layer(trace: Trace, rules: Mapping[int, AnyRule], box: BoxRule | None) -> FirstLayer | None:
    """The layer that reads the image, where it has a rule for that."""
    given = [index for index, rule in rules.items() if isinstance(rule, FirstRule)]
    if given:
        rule = rules[given[0]]
        assert isinstance(rule, FirstRule)
        found = FirstLayer.find(trace, rule)
        if given != [found.conv]:
            names = ", ".join(f"'{trace.nodes[i].name}'" for i in given if i != found.conv)
            raise RelevanceError(
                f"{type(rule).__name__} is a rule of the layer that reads the image, '{trace.nodes[found.conv].name}'; "
                f"the table gives it to {names} too: take At(depth=0) as its key"
            )
        return found
    if box is None:
        return None
    reading = trace.readers[IMAGE]
    own = len(reading) == 1 and trace.nodes[reading[0]].operation == "conv2d" and rules[reading[0]] is not convolution
    return None if own else FirstLayer.find(trace, box)


def carrying_nodes(trace: Trace, gates: Container[int], wanted: frozenset[int]) -> frozenset[int]:
    """Nodes that relevance can reach one that is wanted from: made of it by something else than a gate, and no
    condition."""
    carries = set(wanted)
    for node in trace.nodes:
        if node.floating and node.index not in gates and carries.intersection(relevant_inputs(node)):
            carries.add(node.index)
    return frozenset(carries)


def check_rules(trace: Trace, rules: Container[int], carries: frozenset[int], name: str) -> None:
    """Check that there is a rule for every node between image and logits.

    Args:
        trace: the network.
        rules: nodes that have one.
        carries: nodes that relevance goes through.
        name: of the set of rules, for the message.

    Raises:
        MissingRuleError: for the last node in the network that has none.
        RelevanceError: if no relevance can reach what is wanted at all.
    """
    if trace.output not in carries:
        raise RelevanceError(
            "no relevance reaches the image or the layer: every way to it from the logits ends in a gate, as a sigmoid "
            "or a divisor, or in numbers that are not real. Let the network return logits"
        )
    reached = {trace.output}
    for node in reversed(trace.nodes):
        sources = [i for i in relevant_inputs(node) if i in carries]
        if node.index in reached and sources:
            if node.index not in rules:
                raise MissingRuleError(node.name, node.module or f'"{node.operation}"', name)
            reached.update(sources)


@dataclass(frozen=True)
class Folds:
    """Batch norms multiplied into a convolution's weight: those `before` and `behind` it, by its node."""

    before: Mapping[int, int]
    behind: Mapping[int, int]

    def __contains__(self, node: int) -> bool:
        return node in self.before.values() or node in self.behind.values()


def fold_batch_norms(trace: Trace, rules: Mapping[int, AnyRule], wanted: frozenset[int]) -> Folds:
    """Batch norms whose factor can be multiplied into a weight, which saves passes over whole maps.

    Behind a convolution that nothing else reads; or before one, as batch norm -> ReLU -> convolution, because the
    factor commutes with the gate of the ReLU. Not across a node in `wanted`, whose relevance would miss the factor, nor
    where a rule is of the user's own, who knows nothing of it.
    """

    def stock(index: int | None) -> bool:
        return index is not None and rules.get(index) is EPSILON_TABLE[trace.nodes[index].operation]

    behind = {
        source: norm
        for source, norm in trace.batch_norm_of.items()
        if source not in wanted and stock(norm) and (stock(source) or isinstance(rules.get(source), LayerRule))
    }
    before: dict[int, int] = {}
    for node in trace.nodes:
        index = node.index
        if node.operation == "batch_norm" and stock(index) and index not in behind.values() and index not in wanted:
            relu = trace.sole_reader(index, "relu")
            conv = None if relu is None or relu in wanted else trace.sole_reader(relu, "conv2d")
            if conv is not None and stock(relu) and stock(conv):
                before[conv] = index
    return Folds(before, behind)


def _reference_points(trace: Trace) -> frozenset[int]:
    points = {trace.output}
    for node in trace.nodes:
        if node.operation in ("max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d", "mean"):
            if not _read_by_batch_norm(trace, node.index):
                points.add(node.index)
        elif node.operation == "add":
            points.update(i for i in node.inputs if trace.nodes[i].operation in ("batch_norm", "conv2d"))
    return frozenset(points)


def _read_by_batch_norm(trace: Trace, index: int) -> bool:
    return any(
        trace.nodes[r].operation == "batch_norm"
        or (trace.nodes[r].operation == "cat" and _read_by_batch_norm(trace, r))
        for r in trace.readers[index]
    )
