"""Every test here runs in float64, from a fixed seed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from cxr_isnet.relevance import LRP
from cxr_isnet.relevance.kept import KEEPING
from cxr_isnet.relevance.trace import AffineNorm


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def images() -> torch.Tensor:
    """(3, 2, 9, 8) in [0, 1]."""
    return torch.rand(3, 2, 9, 8)


@pytest.fixture
def constant_statistics(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Batch norms keep for relevance the statistics of the first pass after this is called, in the order of the calls:
    the relevance pass takes them for constants, and so must finite differences. It is called before every pass."""
    original = KEEPING["batch_norm"]
    first: list[tuple[Tensor, Tensor]] = []
    position = -1

    def kept(func: Any, args: Any, kwargs: Any) -> Any:
        nonlocal position
        output, norm, again = original(func, args, kwargs)
        weight = torch.ones(()) if args[1] is None else args[1]
        if position < 0:
            return output, norm, again
        if position == len(first):
            x, training, eps = args[0].detach(), args[5], args[7]
            variance = x.var((0, *range(2, x.dim())), unbiased=False) if training else args[4]
            first.append((torch.rsqrt(variance + eps), norm.mean))
        deviation, mean = first[position]
        position += 1
        return output, AffineNorm(weight * deviation, mean, norm.bias), again

    def start() -> None:
        nonlocal position
        position = 0

    monkeypatch.setitem(KEEPING, "batch_norm", kept)
    return start


def check_gradient(lrp: LRP, images: Tensor, start: Callable[[], None]) -> None:
    """Weight gradients of the maps against finite differences in float64; `start` is `constant_statistics`."""
    names = [name for name, _ in lrp.named_parameters()]
    buffers = {name: buffer.clone() for name, buffer in lrp.named_buffers()}

    def explain(*values: Tensor) -> Tensor:
        start()
        state = dict(zip(names, values, strict=True)) | {name: b.clone() for name, b in buffers.items()}
        return torch.func.functional_call(lrp, state, (images,))[1].image

    parameters = tuple(p.detach().clone().requires_grad_() for p in lrp.parameters())
    assert torch.autograd.gradcheck(explain, parameters, fast_mode=True, atol=1e-6)
