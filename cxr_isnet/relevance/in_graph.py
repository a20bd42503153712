"""Relevance under torch.compile: dynamo takes the forward pass and the relevance pass as one operation each, and the
tracer behind it sees through them; recording a pass while it is traced is like recording it while it runs.

Weights and buffers are handed over as arguments, so that the compiled graph holds the network's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from cxr_isnet.relevance.trace import ForwardPass

if TYPE_CHECKING:
    from cxr_isnet.relevance.lrp import LRP

_ENROLLED: WeakValueDictionary[int, LRP] = WeakValueDictionary()
_NUMBERS = itertools.count()
_TRACED: dict[int, ForwardPass] = {}


def enroll(lrp: LRP) -> None:
    """Give it the number by which a compiled graph names it."""
    lrp.number = next(_NUMBERS)
    _ENROLLED[lrp.number] = lrp


def in_graph(lrp: LRP, images: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """Logits, and the relevance pass: seed (K, B, classes) to the maps of the image and of the layers."""
    number = lrp.number
    named = [*lrp.network.named_parameters(), *lrp.network.named_buffers()]
    names = tuple(name for name, _ in named)
    modes = tuple(module.training for module in lrp.network.modules())
    logits = _recorded(number, modes, names, images, *(value for _, value in named))
    return logits, lambda seed: _propagated(number, seed)


@torch._dynamo.allow_in_graph  # type: ignore[untyped-decorator]
def _recorded(number: int, modes: tuple[bool, ...], names: tuple[str, ...], images: Tensor, *values: Tensor) -> Tensor:
    lrp = _ENROLLED[number]
    state = dict(zip(names, values, strict=True))

    def network(x: Tensor) -> Any:
        return torch.func.functional_call(lrp.network, state, (x,))

    run = _TRACED[number] = lrp.record(images, network)
    return run.logits


@torch._dynamo.allow_in_graph  # type: ignore[untyped-decorator]
def _propagated(number: int, seed: Tensor) -> tuple[Tensor, ...]:
    return _ENROLLED[number].propagate(_TRACED[number], seed)
