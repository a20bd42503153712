"""Transposes of the linear operations: signal at the output (K * B, ...) in, signal at every input out.

Each is made of ordinary differentiable operations, so that autograd differentiates relevance like any other output.
These rules serve every table: a pool or a concatenation moves relevance in the same way whatever the rule for weights
is. `linear_map`, the vector-Jacobian product that torch has for every operation, is right for all of them; the others
are here because they are quicker.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_isnet.relevance.errors import OWN_MODULE, RelevanceError
from cxr_isnet.relevance.signal import by_map, summed_to, times
from cxr_isnet.relevance.trace import Call, wide

Rule = Callable[[Call, Tensor], tuple[Tensor | None, ...]]


def linear_map(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Vector-Jacobian product: for what is linear in its inputs, or picks winners among them; map by map."""
    return linear_map_of(call, signal, call.carries)


def linear_map_of(call: Call, signal: Tensor, which: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """`linear_map` by some of the inputs; the others count as constants."""
    inputs = [wide(x) for x in call.inputs]
    live = [i for i, one in enumerate(which) if one]

    def function(*values: Tensor) -> Tensor:
        given: list[Tensor] = list(inputs)
        for i, value in zip(live, values, strict=True):
            given[i] = value
        output: Tensor = call.step.again(given)
        return output

    transpose: Callable[[Tensor], tuple[Tensor, ...]] = torch.func.vjp(function, *(inputs[i] for i in live))[1]
    maps = [transpose(m) for m in by_map(signal, call.output).unbind(0)]
    found: list[Tensor | None] = [None] * len(inputs)
    for position, i in enumerate(live):
        found[i] = maps[0][position] if len(maps) == 1 else torch.cat([m[position] for m in maps])
    return tuple(found)


@dataclass(frozen=True)
class Convolution:
    """Settings of a convolution of images, in pixels by row and column.

    Attributes:
        stride: of the output.
        padding: zeros at each end.
        dilation: of the kernel.
        groups: of channels.
        beyond: zeros that the far end has more than `padding`, as padding="same" with an even kernel gives it.
    """

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    beyond: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, call: Call) -> Convolution:
        """Those of a recorded `conv2d`."""
        dilation = _pair(call.argument(5, "dilation", 1))
        padding, beyond = call.argument(4, "padding", 0), (0, 0)
        if padding == "valid":
            padding = 0
        elif padding == "same":
            sizes = call.argument(1, "weight").shape[2:]
            total = [d * (k - 1) for d, k in zip(dilation, sizes, strict=True)]
            padding, beyond = [t // 2 for t in total], (total[0] % 2, total[1] % 2)
        stride, groups = _pair(call.argument(3, "stride", 1)), call.argument(6, "groups", 1)
        return cls(stride, _pair(padding), dilation, groups, beyond)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution itself."""
        if any(self.beyond):
            x = F.pad(x, (0, self.beyond[1], 0, self.beyond[0]))
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transposed(self, signal: Tensor, weight: Tensor, size: torch.Size) -> Tensor:
        """`signal` (N, C_out, h, w), `weight` (C_out, C_in / groups, ...) to (N, C_in, *size)."""
        stride, padding, dilation = self.stride, self.padding, self.dilation
        if self.groups == 1 and weight.shape[2:] == (1, 1) and stride == (1, 1) and padding == (0, 0):
            return F.conv2d(signal, weight.transpose(0, 1))  # the same map; torch has faster kernels for it
        whole = self.padded(size)
        missing = [
            whole[i]
            - ((signal.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1)
            for i in range(2)
        ]
        moved = F.conv_transpose2d(signal, weight, None, stride, padding, missing, self.groups, dilation)
        return moved[..., : size[0], : size[1]]

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of an image of this size with the zeros of `beyond`."""
        return size[0] + self.beyond[0], size[1] + self.beyond[1]


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def average_pool(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Each mean gives its signal in equal parts to the pixels of its window; torch's own backward pass does it."""
    (x,) = call.inputs
    size = _pair(call.argument(1, "kernel_size"))
    stride = call.argument(2, "stride", None)
    like = signal.new_empty(1).expand(signal.shape[0], *x.shape[1:])  # torch reads the shape only
    return (
        torch.ops.aten.avg_pool2d_backward(
            signal,
            like,
            size,
            _pair(stride) if stride else size,
            _pair(call.argument(3, "padding", 0)),
            call.argument(4, "ceil_mode", False),
            call.argument(5, "count_include_pad", True),
            call.argument(6, "divisor_override", None),
        ),
    )


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
    dim = call.argument(1, "dim", 0) % call.output.dim()
    if dim == 0:
        raise RelevanceError(
            f"'{call.name}' concatenates along the batch: relevance of images cannot be separated. {OWN_MODULE}"
        )
    tensors = call.step.args[0] if call.step.args else call.step.kwargs["tensors"]
    if len(tensors) != len(call.inputs):  # constants among them, as a class token
        return linear_map(call, signal)  # type: ignore[return-value]
    parts = torch.split(signal, [x.shape[dim] for x in call.inputs], dim)
    # autograd keeps a part, and with a view the whole: in a dense block that is every layer's signal of all channels
    return tuple(p.clone() if 2 * p.shape[dim] <= signal.shape[dim] else p for p in parts)


def addition(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """To each summand the whole signal, summed over where the summand was broadcast."""
    if call.step.kwargs.get("alpha", 1) != 1:
        return linear_map(call, signal)
    found: list[Tensor | None] = []
    for x, carries in zip(call.inputs, call.carries, strict=True):
        whole = x.shape == call.output.shape
        found.append((signal if whole else summed_to(by_map(signal, call.output), x)) if carries else None)
    return tuple(found)


def copying(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """A copy over another tensor: the signal to what is copied, summed over where it was broadcast."""
    found = summed_to(by_map(signal, call.output), call.inputs[-1])
    return (*(None for _ in call.inputs[1:]), found)


def reshaping(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """The signal in the shape of the input; another input, as of `reshape_as`, only tells the shape."""
    (x, *others) = call.inputs
    return (by_map(signal, call.output).reshape(-1, *x.shape[1:]), *(None for _ in others))


def mean(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Each mean gives its signal in equal parts to what it was taken over; a mean over images is a `RelevanceError`."""
    (x,) = call.inputs
    maps, dims = _kept_dims(call, signal)
    count = 1
    for d in dims:
        count *= x.shape[d]
    return (maps.expand(-1, *x.shape).flatten(0, 1) / count,)


def total(call: Call, signal: Tensor) -> tuple[Tensor]:
    """As for `mean`, undivided."""
    (x,) = call.inputs
    maps, _ = _kept_dims(call, signal)
    return (maps.expand(-1, *x.shape).flatten(0, 1),)


def _kept_dims(call: Call, signal: Tensor) -> tuple[Tensor, list[int]]:
    """The signal (K, ...) with the dimensions that were reduced, and which these are."""
    (x,) = call.inputs
    given = call.step.kwargs.get(
        "dim", call.step.kwargs.get("axis", call.step.args[1] if len(call.step.args) > 1 else None)
    )
    if given is None or given == () or given == []:
        raise RelevanceError(
            "the mean over a whole batch mixes images: relevance is given for a mean over channels or pixels"
        )
    dims = sorted(d % x.dim() for d in ((given,) if isinstance(given, int) else given))
    if 0 in dims:
        raise RelevanceError(
            f"'{call.name}' reduces over the images of a batch: relevance of images cannot be separated. Reduce over "
            "channels or pixels, or take a batch norm of torch"
        )
    maps = by_map(signal, call.output)
    if call.output.dim() < x.dim():
        for d in dims:
            maps = maps.unsqueeze(d + 1)
    return maps, dims


def transposition(call: Call, signal: Tensor) -> tuple[Tensor]:
    """The dimensions moved back."""
    (x,) = call.inputs
    order = call.step.again([torch.empty(tuple(range(1, x.dim() + 1)), device="meta")]).shape  # its own sizes tell
    back = [order.index(d + 1) + 1 for d in range(x.dim())]
    return (by_map(signal, call.output).permute(0, *back).flatten(0, 1),)


def dropout(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Factors of the forward pass, 0 or 1 / (1 - p)."""
    return (signal if call.kept is None else times(signal, call.kept),)


def identity(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """The signal as it is; another input, as of `type_as`, only tells the type."""
    return (signal, *(None for _ in call.inputs[1:]))


_LINEAR = """adaptive_avg_pool1d adaptive_avg_pool3d avg_pool1d avg_pool3d chunk channel_shuffle
col2im conv_transpose1d conv_transpose2d conv_transpose3d conv1d conv3d cumsum diagonal expand expand_as
flip gather getitem im2col index_select masked_fill narrow neg pixel_shuffle pixel_unshuffle repeat repeat_interleave
roll rot90 rsub select split split_with_sizes sub tensor_split tile unbind unfold unsafe_chunk unsafe_split
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d where stack
max amax maximum minimum min amin topk max_pool1d_with_indices max_pool3d_with_indices adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d tril triu hstack vstack dstack _weight_norm pad logsumexp sort
median kthvalue take_along_dim as_strided scatter scatter_add index_add index_copy nan_to_num column_stack block_diag
fractional_max_pool2d fractional_max_pool3d max_unpool1d max_unpool2d max_unpool3d""".split()  # noqa: SIM905

TRANSPOSES: Mapping[Hashable, Rule] = {
    **dict.fromkeys(_LINEAR, linear_map),
    **dict.fromkeys(("flatten", "reshape", "squeeze", "unsqueeze", "unflatten", "ravel"), reshaping),
    **dict.fromkeys(("permute", "transpose", "movedim", "t", "T", "mT", "adjoint"), transposition),
    **dict.fromkeys(
        ("clone", "contiguous", "to", "float", "double", "half", "bfloat16", "type_as", "type", "alias"), identity
    ),
    "adaptive_avg_pool2d": adaptive_average_pool,
    "add": addition,
    "avg_pool2d": average_pool,
    "cat": concatenation,
    "copy": copying,
    "dropout": dropout,
    "feature_dropout": dropout,
    "max_pool2d_with_indices": max_pool,
    "mean": mean,
    "sum": total,
}
