"""What a forward pass did, as a list of steps, and the structure of that list, the same from pass to pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cxr_isnet.relevance.errors import NotLogitsError, RelevanceError

IMAGE = 0
"""Index of the step that is the image."""


@dataclass(frozen=True)
class Ref:
    """Stands for the output of another step in a step's arguments."""

    index: int


@dataclass(frozen=True)
class Step:
    """One operation of a forward pass that depends on the image.

    Attributes:
        operation: name of the ATen operation, as "conv2d", spelled without the mark of an in-place one; or the class of
            a module that a table has a rule for, which is kept whole.
        function: called with the arguments, gives the output again and changes nothing.
        args: positional arguments; outputs of other steps appear as `Ref`, everything else, as weights, is itself.
        kwargs: keyword arguments, likewise.
        inputs: indices of the steps read, in order of appearance.
        autocast: dtype that autocast took for it, or None. Relevance does without.
    """

    operation: Hashable
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    autocast: torch.dtype | None = None

    def again(self, inputs: Sequence[Any]) -> Any:
        """The output for other values in place of the inputs, in order of appearance; computed in their dtype."""
        given = iter(inputs)
        dtype = next((x.dtype for x in inputs if isinstance(x, Tensor) and x.is_floating_point()), None)

        def resolve(argument: Any) -> Any:
            if isinstance(argument, Ref):
                return next(given)
            if isinstance(argument, tuple | list):
                return type(argument)(resolve(item) for item in argument)
            narrow = isinstance(argument, Tensor) and argument.is_floating_point() and argument.dtype.itemsize < 4
            return argument.to(dtype) if narrow and dtype is not None else argument

        args = tuple(resolve(argument) for argument in self.args)
        return self.function(*args, **{key: resolve(value) for key, value in self.kwargs.items()})


@dataclass(frozen=True)
class Node:
    """A step's place in the structure.

    Attributes:
        index: position in the list of steps, which is a topological order.
        operation: that of the step.
        inputs: indices of the nodes read, in order of appearance.
        dim: dimensions of the output.
        floating: its output is of floating point; an index or a condition carries no relevance.
        name: path of the innermost module that it ran in, or the operation's name.
        module: class of that module where it is one of torch's, as GELU, or "".
    """

    index: int
    operation: Hashable
    inputs: tuple[int, ...]
    dim: int
    floating: bool
    name: str = ""
    module: str = ""


@dataclass(frozen=True)
class Trace:
    """Structure of a network's forward pass.

    Attributes:
        nodes: in topological order, the image first.
        output: index of the logits.
        layers: by module path, the node of that module's output.
        named: the nodes' names are paths of modules.
    """

    nodes: tuple[Node, ...]
    output: int
    layers: Mapping[str, int] = field(default_factory=dict)
    named: bool = False

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """For each node, the nodes that read it."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                readers[source].append(node.index)
        return tuple(tuple(r) for r in readers)

    @cached_property
    def batch_norm_of(self) -> Mapping[int, int]:
        """By convolution or linear node, the batch norm which alone reads it, so that the two are one affine map."""
        fused: dict[int, int] = {}
        for node in self.nodes:
            if node.operation == "batch_norm":
                source = self.nodes[node.inputs[0]]
                # the channels of a linear layer come last, those of a batch norm second
                same = source.operation == "conv2d" or (source.operation == "linear" and source.dim == 2)
                if same and self.readers[source.index] == (node.index,) and source.index != self.output:
                    fused[source.index] = node.index
        return fused

    def sole_reader(self, index: int, operation: Hashable) -> int | None:
        """The node that alone reads node `index`, if it is an `operation`."""
        readers = self.readers[index]
        return readers[0] if len(readers) == 1 and self.nodes[readers[0]].operation == operation else None


@dataclass(frozen=True)
class AffineNorm:
    """A batch norm as the affine map x * scale + shift per channel, its statistics detached.

    Attributes:
        scale: weight / sqrt(var + eps), (C,). Differentiable in the weight only.
        mean: batch mean in training, running mean in evaluation, (C,), detached.
        bias: its bias (C,), or None.
    """

    scale: Tensor
    mean: Tensor
    bias: Tensor | None

    def shift(self) -> Tensor:
        """What is added after the factor, (C,)."""
        shift = -self.mean * self.scale
        return shift if self.bias is None else shift + self.bias


@dataclass(frozen=True)
class Call:
    """Input of a rule: one step of a forward pass.

    Attributes:
        step: the step.
        name: path of the module that it ran in.
        inputs: its inputs, each (B, ...), in order of appearance.
        output: its output (B, ...).
        kept: what the forward kept for relevance: see `cxr_isnet.relevance.recorder`.
        epsilon: stabiliser of the rules.
        carries: for each input, whether relevance goes on through it; that of one which does not is not looked at.
        norm_before: the batch norm before this convolution, whose factors belong into its weight; or None.
        norm_behind: the batch norm behind this convolution or linear layer, whose map belongs into its own; or None.
    """

    step: Step
    name: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    kept: Any = None
    epsilon: float = 0.0
    carries: tuple[bool, ...] = ()
    norm_before: AffineNorm | None = None
    norm_behind: AffineNorm | None = None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument that is no output of another step, given by position or by name; floats in float32 or wider."""
        found = self.step.args[position] if position < len(self.step.args) else self.step.kwargs.get(name, default)
        return wide(found) if isinstance(found, Tensor) else found

    def affine(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Weight, bias and output of a convolution or linear layer as one with the batch norm behind it, if any."""
        weight, bias, output = self.argument(1, "weight"), self.argument(2, "bias"), wide(self.output)
        norm = self.norm_behind
        if norm is None:
            return weight, bias, output
        shift = norm.shift()
        shape = (-1, *[1] * (output.dim() - 2))
        return (
            weight * norm.scale.reshape(-1, *[1] * (weight.dim() - 1)),
            shift if bias is None else shift + bias * norm.scale,
            output * norm.scale.reshape(shape) + shift.reshape(shape),
        )


@dataclass(frozen=True)
class ForwardPass:
    """A forward pass.

    Attributes:
        steps: what was done, the image first.
        values: output of every step.
        kept: for every step what relevance needs beside its output, or None: see `cxr_isnet.relevance.recorder`.
        output: index of the logits.
        layers: by module path, the step of that module's output.
        names: for every step module path and class of module; without `named`, the operation.
        named: the names are paths of modules.
    """

    steps: list[Step]
    values: list[Tensor]
    kept: list[Any]
    output: int
    layers: Mapping[str, int]
    names: list[tuple[str, str]]
    named: bool = False

    @property
    def logits(self) -> Tensor:
        """Output of the network, (B, classes)."""
        return self.values[self.output]

    def structure(self) -> tuple[Any, ...]:
        """What two passes of the same structure have in common."""
        steps = tuple(
            (s.operation, s.inputs, v.dim(), v.is_floating_point())
            for s, v in zip(self.steps, self.values, strict=True)
        )
        return steps, self.output, tuple(self.layers.items())

    def trace(self) -> Trace:
        """The structure, as a network of nodes."""
        nodes = []
        for i, (step, value, (name, module)) in enumerate(zip(self.steps, self.values, self.names, strict=True)):
            floating = value.is_floating_point()
            nodes.append(Node(i, step.operation, step.inputs, value.dim(), floating, name, module))
        return Trace(tuple(nodes), self.output, dict(self.layers), self.named)

    def call(self, index: int, name: str = "", norm_behind: int | None = None, **settings: Any) -> Call:
        """Step `index` as a rule gets it, with the batch norm at step `norm_behind`."""
        step = self.steps[index]
        norm = None if norm_behind is None else self.kept[norm_behind]
        inputs = tuple(self.values[i] for i in step.inputs)
        return Call(step, name, inputs, self.values[index], self.kept[index], norm_behind=norm, **settings)

    def replayed(self, images: Tensor) -> list[Tensor]:
        """Outputs of all steps for other images, with the same random factors."""
        values: list[Tensor] = []
        for i, step in enumerate(self.steps):
            if i == IMAGE:
                values.append(images)
                continue
            with torch.autocast(images.device.type, step.autocast, step.autocast is not None):
                values.append(step.function(*_filled(step.args, values), **_filled(step.kwargs, values)))
        return values


def _filled(argument: Any, values: Sequence[Any]) -> Any:
    if isinstance(argument, Ref):
        return values[argument.index]
    if isinstance(argument, tuple | list):
        return type(argument)(_filled(item, values) for item in argument)
    if isinstance(argument, dict):
        return {key: _filled(value, values) for key, value in argument.items()}
    return argument


def wide(tensor: Tensor) -> Tensor:
    """The tensor, in float32 where it is narrower."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor


def find_logits(output: Any, batch: int) -> Tensor:
    """The logits (B, classes) among what a network returned: itself, or the only tensor of that shape.

    Raises:
        RelevanceError: if there is none, or more than one.
    """
    if isinstance(output, Tensor):
        if output.dim() != 2:
            raise NotLogitsError(
                f"the network must return logits (B, classes); it returned shape {tuple(output.shape)}"
            )
        return output
    parts = (
        list(output.values())
        if isinstance(output, Mapping)
        else list(output)
        if isinstance(output, tuple | list)
        else []
    )
    fitting = [p for p in parts if isinstance(p, Tensor) and p.dim() == 2 and p.shape[0] == batch]
    if len(fitting) != 1:
        shapes = ", ".join(str(tuple(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in parts)
        raise RelevanceError(
            f"the network must return one tensor, the logits (B, classes); it returned a {type(output).__name__} "
            f"of: {shapes or 'nothing'}. Wrap it in a module that returns the logits, or, where it has auxiliary "
            "heads, switch them off"
        )
    return fitting[0]
