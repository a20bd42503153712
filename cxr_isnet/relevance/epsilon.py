"""LRP-epsilon: the table of rules and the propagation of relevance from the logits to the image.

The signal G, with relevance R = a * G at any activation a, is carried backward. For a ReLU network LRP-epsilon then is
the transposed network with the factor y / (y + epsilon) at every ReLU output y (LRP-Flex; Bassi, Decherchi, Cavalli
2024, arXiv 2401.08409): in the linear map z between two ReLUs R_in = a * W^T(R_out / (z + epsilon sign z)), and R_out =
z * G where z > 0, and 0 elsewhere. Biases absorb their share of relevance. With epsilon = 0 this is gradient times
input.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from cxr_isnet.relevance.errors import MissingRuleError, RelevanceError
from cxr_isnet.relevance.first_layer import FirstLayer
from cxr_isnet.relevance.nonlinear import NONLINEAR, gate
from cxr_isnet.relevance.signal import inverse, per_channel, times
from cxr_isnet.relevance.trace import IMAGE, Call, ForwardPass, Node, Trace, wide
from cxr_isnet.relevance.transposes import TRANSPOSES, Convolution, Rule, is_one_sided, linear_map


def convolution(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Transposed convolution; batch norms next to it are multiplied into the weight, far smaller than a map."""
    if call.inputs[0].dim() != 4 or len(call.inputs) > 1:
        raise RelevanceError(f"'{call.name}' convolves something else than a batch of images with a fixed weight")
    if is_one_sided(call):
        scale = 1.0 if call.scale_out is None else call.scale_out[:, None, None]
        (found,) = linear_map(call, signal * scale)
        return (found if found is None or call.scale_in is None else found * call.scale_in[:, None, None],)
    weight = call.argument(1, "weight")
    if call.scale_out is not None:
        weight = weight * call.scale_out[:, None, None, None]
    if call.scale_in is not None:
        groups = call.argument(6, "groups", 1)
        weight = (weight.unflatten(0, (groups, -1)) * call.scale_in.reshape(groups, 1, -1, 1, 1)).flatten(0, 1)
    return (Convolution.of(call).transposed(signal, weight, call.inputs[0].shape[2:]),)


def linear(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Product with the weight (C_out, C_in), a batch norm behind it multiplied in."""
    if len(call.inputs) > 1:
        raise RelevanceError(f"'{call.name}' is linear with a weight made of the image: write it as a matrix product")
    weight = call.argument(1, "weight")
    return (signal @ (weight if call.scale_out is None else weight * call.scale_out[:, None]),)


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
        table: operation -> rule. To give a module of your own a rule: ``table={**EPSILON_TABLE, MyModule: my_rule}``,
            with ``my_rule(call, signal)`` returning the signal (K * B, ...) at each tensor input. To give an operation
            another one, take its name in ATen as the key: ``{**EPSILON_TABLE, "softmax": gate}``.
    """

    epsilon: float = 1e-2
    points: EpsilonPoints = EpsilonPoints.RELU
    table: Mapping[Hashable, Rule] = field(default_factory=lambda: EPSILON_TABLE)

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            raise RelevanceError(f"epsilon is {self.epsilon}; it must be 0 or more")

    def prepare(self, trace: Trace, first_layer: FirstLayer | None, layers: frozenset[int]) -> EpsilonPropagation:
        """Propagation of these rules through one network.

        Args:
            trace: the network.
            first_layer: z^B rule of the first layer, or None for epsilon there too.
            layers: nodes whose relevance is wanted beside the image's.

        Raises:
            MissingRuleError: if relevance would pass a node that the table does not know.
        """
        carries = carrying_nodes(trace, {op for op, rule in self.table.items() if rule is gate})
        check_table(trace, self.table, carries, type(self).__name__)
        stock = all(self.table.get(op) is EPSILON_TABLE[op] for op in ("conv2d", "batch_norm", "relu"))
        folds = fold_batch_norms(trace, layers) if stock else Folds({}, {})
        points = _reference_points(trace) if self.points is EpsilonPoints.REFERENCE else frozenset()
        return EpsilonPropagation(self, trace, first_layer, layers, folds, points, carries)


@dataclass(frozen=True)
class EpsilonPropagation:
    """`EpsilonRules` prepared for one network: the backward pass of relevance through the steps of a forward pass."""

    rules: EpsilonRules
    trace: Trace
    first_layer: FirstLayer | None
    layers: frozenset[int]
    folds: Folds
    points: frozenset[int]
    carries: frozenset[int]

    def __call__(self, run: ForwardPass, seed: Tensor) -> dict[int, Tensor]:
        """Relevance of the image and of the steps in `layers`.

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
            if node.index in self.layers or node.index == IMAGE:
                found[node.index] = times(signal, wide(output))
            if self.first_layer is not None and node.index == self.first_layer.last:
                found[IMAGE] = self.first_layer.relevance(run, times(signal, wide(output)))
                break
            if node.index == IMAGE:
                break
            for source, part in zip(node.inputs, self._parts(run, node, signal), strict=True):
                if part is not None and source in self.carries:
                    signals[source] = signals[source] + part if source in signals else part
        for index in {IMAGE, *self.layers} - found.keys():  # nothing reaches it
            found[index] = seed.new_zeros(seed.shape[0], *run.values[index].shape[1:])
        return found

    def _parts(self, run: ForwardPass, node: Node, signal: Tensor) -> tuple[Tensor | None, ...]:
        output = run.values[node.index]
        if node.index in self.points:
            signal = times(signal, wide(output) * inverse(wide(output), self.rules.epsilon))
        if node.index in self.folds:
            return (signal,)
        call = Call(
            run.steps[node.index],
            node.name,
            tuple(run.values[i] for i in node.inputs),
            output,
            run.kept[node.index],
            self.rules.epsilon,
            tuple(i in self.carries for i in node.inputs),
            run.norm_scale(self.folds.before.get(node.index)),
            run.norm_scale(self.folds.behind.get(node.index)),
        )
        parts = self.rules.table[node.operation](call, signal)
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


def carrying_nodes(trace: Trace, gates: set[Hashable]) -> frozenset[int]:
    """Nodes that relevance can reach the image from: made of it by something else than a gate, and no condition."""
    carries = {IMAGE}
    for node in trace.nodes:
        if node.floating and node.operation not in gates and carries.intersection(relevant_inputs(node)):
            carries.add(node.index)
    return frozenset(carries)


def check_table(trace: Trace, table: Mapping[Hashable, object], carries: frozenset[int], rules: str) -> None:
    """Check that the table has a rule for every node between image and logits.

    Args:
        trace: the network.
        table: operation -> rule.
        carries: nodes that relevance goes through.
        rules: name of the set of rules, for the message.

    Raises:
        MissingRuleError: for the last node in the network whose operation is not in `table`.
        RelevanceError: if no relevance can reach the image at all.
    """
    if trace.output not in carries:
        raise RelevanceError(
            "no relevance reaches the image: the network ends in a gate, as a sigmoid. Let it return logits"
        )
    reached = {trace.output}
    for node in reversed(trace.nodes):
        if node.index in reached and node.index != IMAGE:
            if node.operation not in table:
                raise MissingRuleError(node.name, node.module or f'"{node.operation}"', rules)
            reached.update(i for i in relevant_inputs(node) if i in carries)


@dataclass(frozen=True)
class Folds:
    """Batch norms multiplied into a convolution's weight: those `before` and `behind` it, by its node."""

    before: Mapping[int, int]
    behind: Mapping[int, int]

    def __contains__(self, node: int) -> bool:
        return node in self.before.values() or node in self.behind.values()


def fold_batch_norms(trace: Trace, layers: frozenset[int]) -> Folds:
    """Batch norms whose factor can be multiplied into a weight, which saves passes over whole maps.

    Behind a convolution that nothing else reads; or before one, as batch norm -> ReLU -> convolution, because the
    factor commutes with the gate of the ReLU. Not across a node in `layers`, whose relevance would miss the factor.
    """
    behind = {source: norm for source, norm in trace.batch_norm_of.items() if source not in layers}
    before: dict[int, int] = {}
    for node in trace.nodes:
        if node.operation == "batch_norm" and node.index not in behind.values() and node.index not in layers:
            relu = trace.sole_reader(node.index, "relu")
            conv = None if relu is None or relu in layers else trace.sole_reader(relu, "conv2d")
            if conv is not None:
                before[conv] = node.index
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
