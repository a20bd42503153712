"""Forward pass of a traced network that keeps what relevance needs, without hooks and without in-place changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.trace import Call, Step, Trace, resolve


@dataclass(frozen=True)
class AffineNorm:
    """A batch norm as the affine map x * scale + shift per channel, its statistics detached.

    Attributes:
        scale: weight / sqrt(var + eps), (C,). Differentiable in the weight only.
        mean: batch mean in training, running mean in evaluation, (C,), detached.
    """

    scale: Tensor
    mean: Tensor


def _relu(module: nn.Module, x: Tensor) -> tuple[Tensor, None]:
    return F.relu(x), None


def _batch_norm(module: nn.Module, x: Tensor) -> tuple[Tensor, AffineNorm]:
    """Batch norm (B, C, H, W) and its map; torch computes the batch statistics anyway, so they cost nothing more."""
    norm = cast(nn.BatchNorm2d, module)
    use_batch = norm.training or norm.running_mean is None
    if not use_batch:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        inverse_deviation = torch.rsqrt(norm.running_var + norm.eps)
        mean = norm.running_mean.clone()  # the buffer may be updated before backward
        output = norm(x)
    else:
        momentum = norm.momentum
        if norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(norm.num_batches_tracked)
        running = (norm.running_mean, norm.running_var) if norm.track_running_stats else (None, None)
        output, mean, inverse_deviation = torch.native_batch_norm(
            x, norm.weight, norm.bias, *running, True, momentum or 0.0, norm.eps
        )
    inverse_deviation, mean = inverse_deviation.detach(), mean.detach()
    scale = inverse_deviation if norm.weight is None else norm.weight * inverse_deviation
    return output, AffineNorm(scale, mean)


def _max_pool(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Max pool and, as int64 (B, C, h, w), the flat position of each winner."""
    pool = cast(nn.MaxPool2d, module)
    pooled, winners = F.max_pool2d(
        x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    return pooled, winners


def _dropout(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Dropout and the factors 0 or 1 / (1 - p) applied, shaped like x, whole maps alike in 2d; None in evaluation."""
    dropout = cast(nn.Dropout | nn.Dropout2d, module)
    if not dropout.training or dropout.p == 0.0:
        return x, None
    drop = F.dropout2d if isinstance(module, nn.Dropout2d) else F.dropout
    factors = drop(torch.ones_like(x), dropout.p, training=True)
    return x * factors, factors


_KEEPING: Mapping[Any, Callable[[nn.Module, Tensor], tuple[Tensor, Any]]] = {
    nn.ReLU: _relu,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool,
    nn.Dropout: _dropout,
    nn.Dropout2d: _dropout,
}


@dataclass(frozen=True)
class ForwardPass:
    """A forward pass.

    Attributes:
        trace: the network.
        values: output of every step.
        kept: for every step what relevance needs beside its output: `AffineNorm` of a batch norm, winners of a max
            pool, factors of a dropout; else None.
    """

    trace: Trace
    values: list[Any]
    kept: list[Any]

    @property
    def logits(self) -> Tensor:
        """Output of the network, (B, classes)."""
        return cast(Tensor, self.values[self.trace.output])

    def tensor_inputs(self, step: Step) -> list[int]:
        """Steps read by `step` whose value is a tensor (sizes carry no relevance)."""
        return [i for i in step.inputs if isinstance(self.values[i], Tensor)]

    def norm_scale(self, index: int | None) -> Tensor | None:
        """Factors (C,) of the batch norm at step `index`."""
        return None if index is None else cast(AffineNorm, self.kept[index]).scale

    def call(
        self, step: Step, *, epsilon: float, scale_in: Tensor | None = None, scale_out: Tensor | None = None
    ) -> Call:
        """Input of the rule of `step`."""
        inputs = tuple(self.values[i] for i in self.tensor_inputs(step))
        return Call(step, inputs, self.values[step.index], self.kept[step.index], epsilon, scale_in, scale_out)


def run_network(trace: Trace, images: Tensor) -> ForwardPass:
    """Run the network step by step.

    Args:
        trace: the network.
        images: (B, C, H, W).

    Returns:
        The forward pass; its logits are bit-equal to those of the network called as usual.

    Raises:
        RelevanceError: if the output is not (B, classes).
    """
    values: list[Any] = []
    kept: list[Any] = []
    for step in trace.steps:
        value, extra = (images, None) if step.index == trace.image else run_step(step, values)
        values.append(value)
        kept.append(extra)
    logits = values[trace.output]
    if logits.dim() != 2:
        raise RelevanceError(f"the network must return logits (B, classes); it returned shape {tuple(logits.shape)}")
    return ForwardPass(trace, values, kept)


def run_step(step: Step, values: Sequence[Any] | Mapping[int, Any]) -> tuple[Any, Any]:
    """Run one step on the values of the steps it reads; returns its output and what is kept for relevance."""
    args = resolve(step.args, values)
    kwargs = {key: resolve(value, values) for key, value in step.kwargs.items()}
    if step.operation in _KEEPING:
        assert step.module is not None
        return _KEEPING[step.operation](step.module, *args, **kwargs)
    if step.module is not None:
        return step.module(*args, **kwargs), None
    if isinstance(step.operation, str):
        return getattr(args[0], step.operation)(*args[1:], **kwargs), None
    if step.operation is torch.reshape and not isinstance(args[1], tuple | list | torch.Size):
        args = (args[0], args[1:])  # the method takes the sizes one by one
    if step.operation is torch.mean and len(args) > 2 and isinstance(args[2], int) and not isinstance(args[2], bool):
        args = (args[0], args[1:])
    return cast(Callable[..., Any], step.operation)(*args, **kwargs), None


def fused_weight(run: ForwardPass, step: Step, norm: int) -> Tensor:
    """Weight of a convolution or linear step with the batch norm at step `norm` behind it multiplied in."""
    weight = cast(nn.Conv2d, step.module).weight
    scale = cast(AffineNorm, run.kept[norm]).scale
    return weight * scale.reshape(-1, *([1] * (weight.dim() - 1)))


def fused_bias(run: ForwardPass, step: Step, norm: int | None) -> Tensor | None:
    """Bias (C,) of a convolution or linear step with the batch norm behind it, if any; None where there is none."""
    bias = cast(nn.Conv2d, step.module).bias
    if norm is None:
        return bias
    affine = cast(AffineNorm, run.kept[norm])
    own = cast(nn.BatchNorm2d, run.trace.steps[norm].module).bias
    shifted = (-affine.mean if bias is None else bias - affine.mean) * affine.scale
    return shifted if own is None else shifted + own
