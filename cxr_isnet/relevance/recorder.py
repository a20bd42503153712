"""Recording of a network's own forward pass: nothing is copied or traced beforehand, so there is no second program that
could differ from the network.

A `Recorder` sees every call of a torch function while the network runs, and keeps those that depend on the image. What
the network does is left as it is; only operations that relevance needs more of than their output are called in a form
that gives it: `batch_norm` its statistics, max pools their winners, dropout its factors.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cxr_isnet.relevance.errors import OWN_MODULE, RelevanceError
from cxr_isnet.relevance.kept import KEEPING
from cxr_isnet.relevance.trace import ForwardPass, Ref, Step, find_logits

# Methods and operators by the name of the ATen operation that they are. Others, as "relu", have its name.
_ATEN_NAMES = {
    "__add__": "add",
    "__radd__": "add",
    "__iadd__": "add",
    "__sub__": "sub",
    "__isub__": "sub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__imul__": "mul",
    "__truediv__": "div",
    "__itruediv__": "div",
    "__matmul__": "matmul",
    "__neg__": "neg",
    "__pow__": "pow",
    "__getitem__": "getitem",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "subtract": "sub",
    "negative": "neg",
    "concat": "cat",
    "concatenate": "cat",
    "clip": "clamp",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "moveaxis": "movedim",
    "view": "reshape",
}
_READS_VALUES = {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy", "__array__", "is_nonzero"}
_OF_SHAPE_ONLY = {
    *("new_empty", "new_zeros", "new_ones", "new_full", "new_tensor", "empty_like", "zeros_like", "ones_like"),
    *("full_like", "rand_like", "randn_like", "randint_like"),
}
# Of the second tensor these take the shape or the type alone.
_LIKE_ANOTHER: Mapping[str, tuple[str, Callable[..., Any], str]] = {
    "view_as": ("reshape", Tensor.reshape, "shape"),
    "reshape_as": ("reshape", Tensor.reshape, "shape"),
    "expand_as": ("expand", Tensor.expand, "shape"),
    "type_as": ("to", Tensor.to, "dtype"),
    "to": ("to", Tensor.to, "dtype"),
}
_POOLS: Mapping[Any, Callable[..., Any]] = {
    F.max_pool1d: F.max_pool1d_with_indices,
    F.max_pool2d: F.max_pool2d_with_indices,
    F.max_pool3d: F.max_pool3d_with_indices,
    torch.max_pool2d: F.max_pool2d_with_indices,
    F.adaptive_max_pool1d: F.adaptive_max_pool1d_with_indices,
    F.adaptive_max_pool2d: F.adaptive_max_pool2d_with_indices,
    F.adaptive_max_pool3d: F.adaptive_max_pool3d_with_indices,
}
_UNSEEN = {
    name: (lambda *_, **__: False)
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
}


def _opened(function: FunctionType) -> Callable[..., Any]:
    """A torch function written in Python, with the calls inside it seen in its place."""
    opened = FunctionType(
        function.__code__,
        {**function.__globals__, **_UNSEEN},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


_OPENED: dict[Any, Callable[..., Any]] = {}


def record(
    network: nn.Module,
    images: Tensor,
    whole: Collection[type],
    layers: Collection[str],
    *,
    named: bool = False,
    run: Callable[[Tensor], Any] | None = None,
) -> ForwardPass:
    """Run a network and keep what relevance needs.

    Args:
        network: module from images to logits, or to a collection with one tensor of that shape.
        images: (B, C, H, W).
        whole: classes of modules that are one step, whatever they do inside.
        layers: paths of modules whose output is looked for.
        named: note in which module every step was done; it takes hooks on all modules while the network runs.
        run: calls the network, if it is not to be called as it is.

    Raises:
        RelevanceError: if the network branches on the images, writes into a tensor in a way that cannot be followed,
            calculates outside of torch, or returns no logits.
    """
    recorder = Recorder(images)
    with recorder.hooks(network, whole, layers, named), recorder:
        output = (run or network)(images)
    logits = find_logits(output, images.shape[0])
    if not recorder.has_seen(logits):
        scripted = [name for name, module in network.named_modules() if isinstance(module, torch.jit.ScriptModule)]
        what = f", as the scripted '{scripted[0]}'" if scripted else ""
        raise RelevanceError(
            "the logits were not made of the image by torch functions that can be followed; the last of these was at "
            f"{recorder.last()}. What comes then is compiled, scripted or calculates outside of torch{what}. "
            f"{OWN_MODULE}"
        )
    return recorder.forward_pass(logits, layers, named)


class Recorder(TorchFunctionMode):
    """Sees the calls of torch functions of one thread."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self._steps = [Step("image", lambda x: x, (), {}, ())]
        self._values: list[Tensor] = [images]
        self._kept: list[Any] = [None]
        self._names = [("image", "")]
        self._index = {id(images): 0}
        self._alive: list[Any] = [images]  # an id is that of one object only while it lives
        self._by_storage: dict[int, list[int]] = {}
        self._stale: dict[int, str] = {}
        self._readers: dict[int, list[int]] = {}  # of constants that are no parameters, by storage
        self._opening: set[Any] = set()
        self._layers: dict[str, int] = {}
        self._stack: list[tuple[str, str]] = []
        self._inside: nn.Module | None = None  # of a module that is one step
        self._with_grad = torch.is_grad_enabled()
        self._thread = threading.get_ident()
        self._note_storage(images, 0)

    def has_seen(self, tensor: Tensor) -> bool:
        """Whether it was made by what was recorded."""
        return id(tensor) in self._index

    def last(self) -> str:
        """The last step, in words."""
        return f"'{self._names[-1][0]}' ({self._steps[-1].operation})"

    def forward_pass(self, logits: Tensor, layers: Collection[str], named: bool) -> ForwardPass:
        """What was recorded."""
        output = self._index[id(logits)]
        missing = [name for name in layers if name not in self._layers]
        if missing:
            raise RelevanceError(f"module '{missing[0]}' is not called in the forward, or returns nothing of the image")
        ordered = {name: self._layers[name] for name in layers}
        return ForwardPass(self._steps, self._values, self._kept, output, ordered, self._names, named)

    # ---- modules

    @contextmanager
    def hooks(
        self, network: nn.Module, whole: Collection[type], layers: Collection[str], named: bool
    ) -> Iterator[None]:
        """Hooks, for as long as the network runs, on the modules that are looked for."""
        with ExitStack() as stack:
            if named:
                for name, module in network.named_modules():
                    if isinstance(module, torch.jit.ScriptModule):
                        continue  # it takes no hooks
                    stack.callback(module.register_forward_pre_hook(self._enter(name)).remove)
                    stack.callback(module.register_forward_hook(self._leave, prepend=True).remove)
            if whole:
                for module in network.modules():
                    if type(module) in whole:
                        stack.callback(module.register_forward_pre_hook(self._enter_whole).remove)
                        stack.callback(
                            module.register_forward_hook(self._leave_whole, with_kwargs=True, prepend=True).remove
                        )
            for name in layers:
                stack.callback(network.get_submodule(name).register_forward_hook(self._watch(name)).remove)
            yield

    def _mine(self) -> bool:
        return threading.get_ident() == self._thread

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            if self._mine():
                kind = type(module)
                self._stack.append((name, kind.__name__ if kind.__module__.startswith("torch.nn") else ""))

        return hook

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._mine():
            self._stack.pop()

    def _enter_whole(self, module: nn.Module, args: Any) -> None:
        if self._mine() and self._inside is None:
            self._inside = module

    def _leave_whole(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._mine() and self._inside is module:
            self._inside = None
            if isinstance(output, Tensor) and id(output) not in self._index:
                self._append(type(module), module, args, kwargs, output)

    def _watch(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if self._mine() and id(output) in self._index:
                self._layers[name] = self._index[id(output)]

        return hook

    # ---- functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._inside is not None:
            return func(*args, **kwargs)
        if func in _POOLS:
            with self:
                return _POOLS[func](*args, **kwargs)[0]
        if type(func) is FunctionType and func not in self._opening:
            return self._open(func, args, kwargs)
        name = func.__name__.partition(".")[0]
        if name == "__get__":
            name = getattr(func.__self__, "__name__", name)
        in_place = (name.endswith("_") and not name.endswith("__")) or (name.startswith("__i") and name in _ATEN_NAMES)
        if in_place or name == "__setitem__" or "out" in kwargs:
            self._keep_constants(kwargs.get("out", args[0] if args else None))
        if name in _LIKE_ANOTHER and len(args) == 2 and isinstance(args[1], Tensor):
            name, func, what = _LIKE_ANOTHER[name]
            args = (args[0], getattr(args[1], what))
        if not self._depends(args) and not self._depends(tuple(kwargs.values())):
            return func(*args, **kwargs)
        if name in _READS_VALUES:
            raise RelevanceError(
                f"the forward must not branch on the data: '{self._where(name)[0]}' reads values of the image ({name})."
                " Wrap the part that does in a module of its own and give that module a rule"
            )
        if name in _OF_SHAPE_ONLY:
            return func(*args, **kwargs)
        if in_place:
            return self._in_place(func, name, args, kwargs)
        if name == "__setitem__" or "out" in kwargs:
            raise RelevanceError(
                f"'{self._where(name)[0]}' writes into a part of a tensor: relevance cannot follow it. Make the tensor "
                "by torch.cat, torch.stack or torch.where"
            )
        return self._record(func, _ATEN_NAMES.get(name, name), args, kwargs)

    def _open(self, func: FunctionType, args: Any, kwargs: Any) -> Any:
        """Calls a torch function written in Python; one that calls itself again, as torch._assert, is not opened."""
        if func not in _OPENED:
            _OPENED[func] = _opened(func)
        self._opening.add(func)
        try:
            with self:
                return _OPENED[func](*args, **kwargs)
        finally:
            self._opening.discard(func)

    def _depends(self, argument: Any) -> bool:
        if isinstance(argument, Tensor):
            return id(argument) in self._index
        return isinstance(argument, tuple | list) and any(self._depends(item) for item in argument)

    def _record(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in KEEPING:
            output, kept, function = KEEPING[name](func, args, kwargs)
            if id(output) in self._index:
                return output
            self._append(name, function, args, kwargs, output, kept)
            return output
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            if id(output) not in self._index:  # else it is an argument given back, as by contiguous()
                self._append(name, func, args, kwargs, output)
            return output
        if isinstance(output, tuple | list) and any(isinstance(item, Tensor) for item in output):
            kept = output[1] if name.endswith("_with_indices") else None
            for position, item in enumerate(output):
                if isinstance(item, Tensor):
                    self._append(name, _Item(func, position), args, kwargs, item, kept)
        return output

    def _in_place(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Keeps what was there before: relevance may need it, and other readers have read it."""
        target = args[0]
        index = self._index.get(id(target))
        if index is None:  # a constant until now, as a buffer; its views that were made before are found out later
            return self._write(func, name, args, kwargs)
        for other in self._by_storage.get(_storage(target), ()):
            value = self._values[other]
            if other != index and self._index.get(id(value)) == other:
                self._stale[id(value)] = self._where(name)[0]
                self._values[other] = value.clone()
        self._values[index] = target.clone()
        operation = _ATEN_NAMES.get(name, name.rstrip("_"))
        kept, function = None, _OnCopy(func)
        if operation in ("dropout", "feature_dropout"):
            output, kept, function = KEEPING[operation](
                getattr(torch, operation), (self._values[index], *args[1:]), kwargs
            )
            target.copy_(output)
        else:
            func(*args, **kwargs)
        self._append(operation, function, args, kwargs, target, kept)
        return target

    def _keep_constants(self, target: Any) -> None:
        """Before a tensor is changed in place: steps that have read it, as a buffer, keep what they have read."""
        if not isinstance(target, Tensor) or id(target) in self._index:
            return
        storage = _storage(target)
        for index in self._readers.pop(storage, ()):
            step = self._steps[index]

            def keep(argument: Any, storage: int = storage) -> Any:
                if isinstance(argument, Tensor) and _storage(argument) == storage:
                    return argument.clone()
                if isinstance(argument, tuple | list):
                    return type(argument)(keep(item) for item in argument)
                return argument

            kwargs = {key: keep(value) for key, value in step.kwargs.items()}
            self._steps[index] = replace(step, args=keep(step.args), kwargs=kwargs)

    def _write(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The image's values written into a tensor that was made without them."""
        target: Tensor = args[0]
        before = target.detach().clone()
        func(*args, **kwargs)
        operation = _ATEN_NAMES.get(name, name.rstrip("_"))
        index = self._append(operation, _OnCopy(func), (before, *args[1:]), kwargs, target)
        self._values[index] = target.clone()  # a buffer changes again before the backward pass
        return target

    def _append(
        self,
        operation: Any,
        function: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Tensor,
        kept: Any = None,
    ) -> int:
        inputs: list[int] = []

        def refer(argument: Any) -> Any:
            if isinstance(argument, Tensor):
                index = self._index.get(id(argument))
                if index is None:
                    if not isinstance(argument, nn.Parameter):
                        self._readers.setdefault(_storage(argument), []).append(len(self._steps))
                    return argument
                if id(argument) in self._stale:
                    raise RelevanceError(
                        f"'{self._stale[id(argument)]}' changes in place what another tensor is a view of, and "
                        f"'{self._where(operation)[0]}' reads that: relevance cannot follow it. Do not work in place"
                    )
                inputs.append(index)
                return Ref(index)
            if isinstance(argument, list):
                return [refer(item) for item in argument]
            if isinstance(argument, tuple):
                return tuple(refer(item) for item in argument)
            return argument

        args, kwargs = tuple(refer(a) for a in args), {key: refer(value) for key, value in kwargs.items()}
        if operation == "div" and not isinstance(args[0], Ref):
            operation = "reciprocal"  # a constant divided by what depends on the image
        if operation == "pow" and not (isinstance(args[0], Ref) and isinstance(args[1], int | float) and args[1] > 0):
            operation = "reciprocal"  # infinite, or not 0, at 0
        device = output.device.type
        autocasts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        autocast = torch.get_autocast_dtype(device) if autocasts else None
        step = Step(operation, function, args, kwargs, tuple(inputs), autocast)
        value = output
        if (
            self._with_grad and not torch.is_grad_enabled()
        ):  # inside an autograd function: it has a derivative of its own
            with torch.enable_grad():
                value = step.again([self._values[i] for i in inputs])
        index = len(self._steps)
        self._steps.append(step)
        self._values.append(value)
        self._kept.append(kept)
        self._names.append(self._where(operation))
        self._index[id(output)] = index
        self._alive.append(output)
        self._note_storage(output, index)
        return index

    def _note_storage(self, tensor: Tensor, index: int) -> None:
        self._by_storage.setdefault(_storage(tensor), []).append(index)

    def _where(self, operation: Any) -> tuple[str, str]:
        what = getattr(operation, "__name__", str(operation))
        return self._stack[-1] if self._stack and self._stack[-1][0] else (what, "")


def _storage(tensor: Tensor) -> int:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return int(tensor.untyped_storage()._cdata)


@dataclass(frozen=True)
class _Item:
    """One of the outputs of a function."""

    function: Callable[..., Any]
    position: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)[self.position]


@dataclass(frozen=True)
class _OnCopy:
    """An in-place function, on a copy of its argument."""

    function: Callable[..., Any]

    def __call__(self, target: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.function(target.clone(), *args, **kwargs)
