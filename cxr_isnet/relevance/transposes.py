"""Transposes of the linear operations: signal at the output (K * B, ...) in, signal at every tensor input out.

Each is made of ordinary differentiable operations, so that autograd differentiates relevance like any other output.
These rules serve every table: a pool or a concatenation moves relevance in the same way whatever the rule for weights
is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.signal import times
from cxr_isnet.relevance.trace import Call

Rule = Callable[[Call, Tensor], tuple[Tensor, ...]]


def checked_padding(module: nn.Conv2d) -> tuple[int, ...]:
    """Zero padding of a convolution in pixels.

    Raises:
        RelevanceError: for any other padding, whose transpose is not implemented.
    """
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise RelevanceError(
            f"convolution with padding={module.padding!r}, padding_mode={module.padding_mode!r}: relevance is given "
            "for zero padding given in pixels"
        )
    return module.padding


def convolution(module: nn.Conv2d, signal: Tensor, weight: Tensor, size: torch.Size) -> Tensor:
    """Transposed convolution: `signal` (N, C_out, h, w), `weight` (C_out, C_in / groups, ...) to (N, C_in, *size)."""
    stride, dilation, padding = module.stride, module.dilation, checked_padding(module)
    missing = [
        size[i] - ((signal.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1)
        for i in range(2)
    ]
    if module.groups == 1 and weight.shape[2:] == (1, 1) and stride == (1, 1) and padding == (0, 0):
        return F.conv2d(signal, weight.transpose(0, 1))  # the same map; torch has faster kernels for it
    return F.conv_transpose2d(signal, weight, None, stride, padding, missing, module.groups, dilation)


def average_pool(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Each mean gives its signal in equal parts to the pixels of its window; torch's own backward pass does it."""
    pool, (x,) = cast(nn.AvgPool2d, call.step.module), call.inputs
    size = _as_pair(pool.kernel_size)
    stride = _as_pair(pool.stride)
    like = signal.new_empty(1).expand(signal.shape[0], *x.shape[1:])  # torch reads the shape only
    return (
        torch.ops.aten.avg_pool2d_backward(
            signal,
            like,
            size,
            stride,
            _as_pair(pool.padding),
            pool.ceil_mode,
            pool.count_include_pad,
            pool.divisor_override,
        ),
    )


def _as_pair(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def adaptive_average_pool(call: Call, signal: Tensor) -> tuple[Tensor]:
    """As for `average_pool`, with the windows of an adaptive pool."""
    (x,) = call.inputs
    if signal.shape[2:] == (1, 1):
        return (signal.expand(-1, -1, *x.shape[2:]) / (x.shape[2] * x.shape[3]),)
    like = signal.new_empty(1).expand(signal.shape[0], *x.shape[1:])
    return (torch.ops.aten._adaptive_avg_pool2d_backward(signal, like),)


def max_pool(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Everything to the winner; where windows overlap, an input that wins twice receives both."""
    (x,) = call.inputs
    winners: Tensor = call.kept
    batch, channels = winners.shape[:2]
    maps = signal.shape[0] // batch
    index = winners.flatten(2).expand(maps, -1, -1, -1)
    empty = signal.new_zeros(maps, batch, channels, x.shape[2] * x.shape[3])
    moved = empty.scatter_add(3, index, signal.reshape(maps, batch, channels, -1))
    return (moved.reshape(-1, channels, *x.shape[2:]),)


def concatenation(call: Call, signal: Tensor) -> tuple[Tensor, ...]:
    """To each input its own part; a concatenation of batches is a `RelevanceError`."""
    dim = call.step.kwargs.get("dim", call.step.args[1] if len(call.step.args) > 1 else 0)
    if dim % call.output.dim() == 0:
        raise RelevanceError(
            f"'{call.step.name}' concatenates along the batch: relevance of images cannot be separated"
        )
    parts = torch.split(signal, [x.shape[dim] for x in call.inputs], dim)
    # autograd keeps a part, and with a view the whole: in a dense block that is every layer's signal of all channels
    return tuple(p.clone() if 2 * p.shape[dim] <= signal.shape[dim] else p for p in parts)


def addition(call: Call, signal: Tensor) -> tuple[Tensor, ...]:
    """To each summand the whole signal; a sum with broadcasting or a factor is a `RelevanceError`."""
    if any(x.shape != call.output.shape for x in call.inputs):
        raise RelevanceError(f"'{call.step.name}' adds tensors of different shapes; relevance is given for equal ones")
    if call.step.kwargs.get("alpha", 1) != 1:
        raise RelevanceError(f"'{call.step.name}' adds with a factor alpha: multiply in a module with a rule")
    return tuple(signal for _ in call.inputs)


def reshaping(call: Call, signal: Tensor) -> tuple[Tensor]:
    """The signal in the shape of the input."""
    (x,) = call.inputs
    return (signal.reshape(signal.shape[0], *x.shape[1:]),)


def mean(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Each mean gives its signal in equal parts to what it was taken over; a mean over images is a `RelevanceError`."""
    (x,) = call.inputs
    dims = call.step.kwargs.get("dim", call.step.args[1:] or None)
    if dims is None:
        raise RelevanceError(
            "the mean over a whole batch mixes images: relevance is given for a mean over channels or pixels"
        )
    while isinstance(dims, tuple | list) and len(dims) == 1 and not isinstance(dims[0], int):
        dims = dims[0]
    wanted = sorted(d % x.dim() for d in ((dims,) if isinstance(dims, int) else dims) if not isinstance(d, bool))
    if call.output.dim() < x.dim():
        for d in wanted:
            signal = signal.unsqueeze(d)
    count = 1
    for d in wanted:
        count *= x.shape[d]
    return (signal.expand(-1, *x.shape[1:]) / count,)


def dropout(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Factors of the forward pass, 0 or 1 / (1 - p)."""
    return (signal if call.kept is None else times(signal, call.kept),)


def identity(call: Call, signal: Tensor) -> tuple[Tensor]:
    """The signal as it is."""
    return (signal,)


TRANSPOSES: Mapping[Hashable, Rule] = {
    nn.AvgPool2d: average_pool,
    nn.AdaptiveAvgPool2d: adaptive_average_pool,
    nn.MaxPool2d: max_pool,
    nn.Flatten: reshaping,
    nn.Dropout: dropout,
    nn.Dropout2d: dropout,
    nn.Identity: identity,
    torch.add: addition,
    torch.cat: concatenation,
    torch.flatten: reshaping,
    torch.reshape: reshaping,
    torch.mean: mean,
    "contiguous": identity,
}
