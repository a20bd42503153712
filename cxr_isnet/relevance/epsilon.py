"""LRP-epsilon: the table of rules and the propagation of relevance from the logits to the image.

The signal G, with relevance R = a * G at any activation a, is carried backward. For a ReLU network LRP-epsilon then is
the transposed network with the factor y / (y + epsilon) at every ReLU output y (LRP-Flex; Bassi, Decherchi, Cavalli
2024, arXiv 2401.08409): in the linear map z between two ReLUs R_in = a * W^T(R_out / (z + epsilon sign z)), and R_out =
z * G where z > 0, and 0 elsewhere. Biases absorb their share of relevance. With epsilon = 0 this is gradient times
input.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

import torch
from torch import Tensor, nn

from cxr_isnet.relevance import transposes
from cxr_isnet.relevance.errors import MissingRuleError, RelevanceError
from cxr_isnet.relevance.first_layer import FirstLayer
from cxr_isnet.relevance.forward import AffineNorm, ForwardPass
from cxr_isnet.relevance.signal import epsilon_gate, inverse, per_channel, times
from cxr_isnet.relevance.trace import Call, Step, Trace

Rule = Callable[[Call, Tensor], tuple[Tensor, ...]]


def convolution(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Transposed convolution; batch norms next to it are multiplied into the weight, far smaller than a map."""
    module = cast(nn.Conv2d, call.step.module)
    weight = module.weight
    if call.scale_out is not None:
        weight = weight * call.scale_out[:, None, None, None]
    if call.scale_in is not None:
        weight = weight * call.scale_in[:, None, None]
    return (transposes.convolution(module, signal, weight, call.inputs[0].shape[2:]),)


def linear(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Product with the weight (C_out, C_in), a batch norm behind it multiplied in."""
    weight = cast(nn.Linear, call.step.module).weight
    return (signal @ (weight if call.scale_out is None else weight * call.scale_out[:, None]),)


def batch_norm(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Factor of each channel; the shift absorbs its share of relevance."""
    return (signal * per_channel(cast(AffineNorm, call.kept).scale, signal),)


def relu(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Factor y / (y + epsilon) at the output y."""
    return (epsilon_gate(signal, call.output, call.epsilon),)


EPSILON_TABLE: Mapping[Hashable, Rule] = {
    **transposes.TRANSPOSES,
    nn.Conv2d: convolution,
    nn.Linear: linear,
    nn.BatchNorm2d: batch_norm,
    nn.ReLU: relu,
}


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
            with ``my_rule(call, signal)`` returning the signal (K * B, ...) at each tensor input.
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
            layers: steps whose relevance is wanted beside the image's.

        Raises:
            MissingRuleError: if relevance would pass a step that the table does not know.
        """
        check_table(trace, self.table, type(self).__name__)
        stock = all(
            self.table[op] is EPSILON_TABLE[op] for op in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU) if op in self.table
        )
        folds = fold_batch_norms(trace, layers) if stock else Folds({}, {})
        points = _reference_points(trace) if self.points is EpsilonPoints.REFERENCE else frozenset()
        return EpsilonPropagation(self, trace, first_layer, layers, folds, points)


@dataclass(frozen=True)
class EpsilonPropagation:
    """`EpsilonRules` prepared for one network: the backward pass of relevance through the steps of a forward pass."""

    rules: EpsilonRules
    trace: Trace
    first_layer: FirstLayer | None
    layers: frozenset[int]
    folds: Folds
    points: frozenset[int]

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
        for step in reversed(self.trace.steps):
            signal = signals.pop(step.index, None)
            if signal is None:
                continue
            output = run.values[step.index]
            if step.index in self.layers or step.index == self.trace.image:
                found[step.index] = times(signal, output)
            if self.first_layer is not None and step.index == self.first_layer.last:
                found[self.trace.image] = self.first_layer.relevance(run, times(signal, output))
                break
            if step.index == self.trace.image:
                break
            for source, part in zip(run.tensor_inputs(step), self._parts(run, step, signal), strict=True):
                signals[source] = signals[source] + part if source in signals else part
        return found

    def _parts(self, run: ForwardPass, step: Step, signal: Tensor) -> tuple[Tensor, ...]:
        if step.index in self.points:
            output = run.values[step.index]
            signal = times(signal, output * inverse(output, self.rules.epsilon))
        if step.index in self.folds:
            return (signal,)
        call = run.call(
            step,
            epsilon=self.rules.epsilon,
            scale_in=run.norm_scale(self.folds.before.get(step.index)),
            scale_out=run.norm_scale(self.folds.behind.get(step.index)),
        )
        return self.rules.table[step.operation](call, signal)


def check_table(trace: Trace, table: Mapping[Hashable, object], rules: str) -> None:
    """Check that the table has a rule for every step between image and logits.

    Args:
        trace: the network.
        table: operation -> rule.
        rules: name of the set of rules, for the message.

    Raises:
        MissingRuleError: for the last step in the network whose operation is not in `table`.
    """
    reached = {trace.output}
    after_image = {trace.image}
    for step in trace.steps:
        if after_image.intersection(step.inputs):
            after_image.add(step.index)
    for step in reversed(trace.steps):
        if step.index in reached and step.index != trace.image and step.index in after_image:
            if step.operation in table:
                reached.update(step.inputs)
            elif step.index not in trace.sizes:  # sizes carry no relevance
                raise MissingRuleError(step.name, step.operation, rules)


@dataclass(frozen=True)
class Folds:
    """Batch norms multiplied into a convolution's weight: those `before` and `behind` it, by its step."""

    before: Mapping[int, int]
    behind: Mapping[int, int]

    def __contains__(self, step: int) -> bool:
        return step in self.before.values() or step in self.behind.values()


def fold_batch_norms(trace: Trace, layers: frozenset[int]) -> Folds:
    """Batch norms whose factor can be multiplied into a weight, which saves passes over whole maps.

    Behind a convolution that nothing else reads; or before one, as batch norm -> ReLU -> convolution, because the
    factor commutes with the gate of the ReLU. Not across a step in `layers`, whose relevance would miss the factor.
    """
    behind = {source: norm for source, norm in trace.batch_norm_of.items() if source not in layers}
    before: dict[int, int] = {}
    for step in trace.steps:
        if step.operation is nn.BatchNorm2d and step.index not in behind.values() and step.index not in layers:
            gate = trace.sole_reader(step.index, nn.ReLU)
            conv = None if gate is None or gate in layers else trace.sole_reader(gate, nn.Conv2d)
            if conv is not None and cast(nn.Conv2d, trace.steps[conv].module).groups == 1:
                before[conv] = step.index
    return Folds(before, behind)


def _reference_points(trace: Trace) -> frozenset[int]:
    points = {trace.output}
    for step in trace.steps:
        if step.operation in (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, torch.mean):
            if not _read_by_batch_norm(trace, step.index):
                points.add(step.index)
        elif step.operation is torch.add:
            points.update(i for i in step.inputs if trace.steps[i].operation in (nn.BatchNorm2d, nn.Conv2d))
    return frozenset(points)


def _read_by_batch_norm(trace: Trace, index: int) -> bool:
    return any(
        trace.steps[r].operation is nn.BatchNorm2d
        or (trace.steps[r].operation is torch.cat and _read_by_batch_norm(trace, r))
        for r in trace.readers[index]
    )
