"""A network as a list of steps: traced once with torch.fx, run as often as wanted.

Running a step by hand, rather than calling the network, is what lets relevance keep the few things it needs (batch
statistics, winners of a max pool) without hooks or global state.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from cxr_isnet.relevance.errors import RelevanceError

# A function with settings in its arguments becomes the module with the same settings, so that a rule is written once.
_AS_MODULE: Mapping[Any, Callable[..., nn.Module]] = {
    F.relu: lambda inplace=False: nn.ReLU(),
    torch.relu: lambda: nn.ReLU(),
    torch.relu_: lambda: nn.ReLU(),
    "relu": lambda: nn.ReLU(),
    "relu_": lambda: nn.ReLU(),
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}

# Different spellings of one operation. An in-place sum would overwrite an activation that relevance still needs.
_SAME_OPERATION: Mapping[Any, Hashable] = {
    operator.add: torch.add,
    operator.iadd: torch.add,
    "add": torch.add,
    "add_": torch.add,
    torch.concat: torch.cat,
    torch.concatenate: torch.cat,
    "flatten": torch.flatten,
    "view": torch.reshape,
    "reshape": torch.reshape,
    "mean": torch.mean,
}


@dataclass(frozen=True)
class Ref:
    """Stands for the output of another step in a step's arguments."""

    index: int


@dataclass(frozen=True)
class Step:
    """One operation of the traced network.

    Attributes:
        index: position in the list of steps, which is a topological order.
        name: module path as in ``named_modules``, or the function's name.
        operation: key of the rule tables: the module's type, or the function.
        module: the network's own module (never a copy), or None for a function.
        args: positional arguments; outputs of other steps appear as `Ref`.
        kwargs: keyword arguments, likewise.
        inputs: indices of the steps read, in order of appearance.
    """

    index: int
    name: str
    operation: Hashable
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """A traced network.

    Attributes:
        steps: in topological order.
        image: index of the image's step.
        output: index of the logits' step.
        readers: for each step, the steps that read it.
        batch_norm_of: by convolution or linear step, the batch norm which alone reads it, so that the two are one
            affine map.
    """

    steps: tuple[Step, ...]
    image: int
    output: int
    readers: tuple[tuple[int, ...], ...]
    batch_norm_of: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> frozenset[int]:
        """Steps that read a shape, and arithmetic on shapes."""
        found: set[int] = set()
        for step in self.steps:
            reads = step.operation == "size" or (step.operation is getattr and step.args[1] == "shape")
            if reads or (step.inputs and set(step.inputs) <= found and hasattr(operator, step.name)):
                found.add(step.index)
        return frozenset(found)

    def sole_reader(self, index: int, operation: Hashable) -> int | None:
        """The step that alone reads step `index`, if it is an `operation`."""
        readers = self.readers[index]
        return readers[0] if len(readers) == 1 and self.steps[readers[0]].operation is operation else None

    def find(self, name: str) -> int:
        """Index of the last step whose module path is `name`; raises `RelevanceError` naming the choices."""
        found = [step.index for step in self.steps if step.name == name]
        if not found:
            choices = ", ".join(step.name for step in self.steps if step.module is not None)
            raise RelevanceError(f"the network has no module '{name}' that is called in its forward; it has: {choices}")
        return found[-1]


class _Tracer(fx.Tracer):
    """Tracer that keeps a module whole when some table has a rule for it."""

    def __init__(self, whole: Collection[Hashable]) -> None:
        super().__init__()
        self._whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        operation: Any = type(m)
        return operation in self._whole or super().is_leaf_module(m, module_qualified_name)


def trace_network(network: nn.Module, operations: Collection[Hashable]) -> Trace:
    """Trace a network with torch.fx.

    Args:
        network: a module from one image batch (B, C, H, W) to logits (B, classes). Its own submodules are referred to,
            not copied.
        operations: keys of the rule tables; modules of these types stay whole.

    Raises:
        RelevanceError: if the network takes several inputs, does not return one tensor, or branches on data.
    """
    try:
        graph = _Tracer(operations).trace(network)
    except fx.proxy.TraceError as error:
        raise RelevanceError(
            f"{type(network).__name__} cannot be traced: {error}. Its forward must not branch on the data; wrap the "
            "part that does in a module of its own and give that module a rule."
        ) from error
    modules = dict(network.named_modules())
    steps: list[Step] = []
    index_of: dict[fx.Node, int] = {}
    images: list[int] = []
    output = -1
    for node in graph.nodes:
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise RelevanceError(f"{type(network).__name__} must return one tensor, the logits (B, classes)")
            output = index_of[node.args[0]]
            continue
        if node.op == "placeholder":
            if node.args or not node.users:  # an optional argument, or one that the forward ignores
                continue
            images.append(len(steps))
        index_of[node] = len(steps)
        steps.append(_step(node, len(steps), index_of, modules))
    if len(images) != 1:
        raise RelevanceError(f"{type(network).__name__} must take one image tensor; it takes {len(images)} inputs")
    readers = tuple(tuple(s.index for s in steps if i in s.inputs) for i in range(len(steps)))
    return Trace(tuple(steps), images[0], output, readers, _fused_batch_norms(steps, readers))


def _step(node: fx.Node, index: int, index_of: Mapping[fx.Node, int], modules: Mapping[str, nn.Module]) -> Step:
    inputs: list[int] = []

    def refer(source: fx.Node) -> Any:
        inputs.append(index_of[source])
        return Ref(index_of[source])

    args = fx.node.map_arg(node.args, refer)
    kwargs = fx.node.map_arg(node.kwargs, refer)
    name, module = str(node.target), None
    operation: Any = node.target
    if node.op == "call_module":
        module = modules[name]
        operation = type(module)
    elif node.op == "get_attr":
        raise RelevanceError(f"'{name}' is a bare parameter or buffer in the forward: put it into a module with a rule")
    elif node.op == "placeholder":
        args, kwargs = (), {}
    else:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", name)
        if operation in _AS_MODULE:
            module = _AS_MODULE[operation](*args[1:], **kwargs)
            operation, args, kwargs = type(module), args[:1], {}
        operation = _SAME_OPERATION.get(operation, operation)
    return Step(index, name, operation, module, tuple(args), dict(kwargs), tuple(inputs))


def _fused_batch_norms(steps: list[Step], readers: tuple[tuple[int, ...], ...]) -> dict[int, int]:
    fused: dict[int, int] = {}
    for step in steps:
        if step.operation is nn.BatchNorm2d:
            source = steps[step.inputs[0]]
            if source.operation in (nn.Conv2d, nn.Linear) and readers[source.index] == (step.index,):
                fused[source.index] = step.index
    return fused


def resolve(argument: Any, values: Sequence[Any] | Mapping[int, Any]) -> Any:
    """Argument, possibly nested, with every `Ref` replaced by the value that it stands for."""
    if isinstance(argument, Ref):
        return values[argument.index]
    if isinstance(argument, tuple | list):  # plain ones: torch.compile does not take those of torch.fx
        items = [resolve(item, values) for item in argument]
        return tuple(items) if isinstance(argument, tuple) else items
    return argument


@dataclass(frozen=True)
class Call:
    """Input of a rule: one step of a forward pass.

    Attributes:
        step: the step.
        inputs: its tensor inputs, each (B, ...).
        output: its output (B, ...).
        kept: what the forward kept for relevance: see `cxr_isnet.relevance.forward`.
        epsilon: stabiliser of the rules.
        scale_in: factors (C_in,) of a batch norm before this convolution, folded into its weight; or None.
        scale_out: factors (C_out,) of a batch norm behind it, likewise.
    """

    step: Step
    inputs: tuple[Tensor, ...]
    output: Tensor
    kept: Any = None
    epsilon: float = 0.0
    scale_in: Tensor | None = None
    scale_out: Tensor | None = None
