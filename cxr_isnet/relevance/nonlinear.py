"""Rules of what is not linear: activations, gates, products, attention, norms.

Each takes the signal G, with relevance R = a * G, from the output to the inputs.

Source:
    Bach et al., PLoS ONE 10(7), 2015; Montavon et al., Pattern Recognition 65, 2017. Norms and constant attention: Ali
    et al., XAI for transformers, ICML 2022. Softmax and products: Achtibat et al., AttnLRP, ICML 2024.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.signal import by_map, epsilon_gate, inverse, per_channel, summed_to, times
from cxr_isnet.relevance.trace import Call, Ref, wide
from cxr_isnet.relevance.transposes import Rule, linear_map, linear_map_of


def gate(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """No relevance goes on: a gate, as a sigmoid whose output scales something else, counts as a constant."""
    return tuple(None for _ in call.inputs)


def relu(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Factor y / (y + epsilon) at the output y."""
    return (epsilon_gate(signal, call.output, call.epsilon),)


def activation(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Factor f(x) / (x + epsilon sign x) of an element-wise function with f(0) = 0: relevance stays where it is."""
    x, y = wide(call.inputs[0]), wide(call.output)
    return (times(signal, y * inverse(x, call.epsilon)), *(None for _ in call.inputs[1:]))


def clamping(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """`activation`, for a range that contains 0."""
    low, high = (
        call.argument(1, "min", call.step.kwargs.get("min_val")),
        call.argument(2, "max", call.step.kwargs.get("max_val")),
    )
    if isinstance(low, Tensor) or isinstance(high, Tensor) or (low or 0) > 0 or (high is not None and high < 0):
        raise RelevanceError(f"'{call.name}' clamps to [{low}, {high}]: relevance is given for a range that contains 0")
    return activation(call, signal)


def scaling(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Product: shared out evenly among the factors that carry relevance; a constant or a gate takes none."""
    arguments = [*call.step.args, *call.step.kwargs.values()][:2]
    which = [i for i, argument in enumerate(arguments) if isinstance(argument, Ref)]  # in order of the inputs
    maps = by_map(signal, call.output) / sum(call.carries)
    found: list[Tensor | None] = []
    for i, x, carries in zip(which, call.inputs, call.carries, strict=True):
        other = call.inputs[which.index(1 - i)] if 1 - i in which else arguments[1 - i]
        factor = wide(other) if isinstance(other, Tensor) else other
        found.append(summed_to(maps * factor, x) if carries else None)
    return tuple(found)


def multiply_add(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """a + value * b * c: the sum passes the signal on, the product shares it out as `scaling`."""
    maps, inputs = by_map(signal, call.output), dict(zip(_references(call), call.inputs, strict=True))
    carries = dict(zip(inputs, call.carries, strict=True))
    factor = call.step.kwargs.get("value", 1) / max(1, sum(carries.get(i, False) for i in (1, 2)))
    found: list[Tensor | None] = []
    for i, x in inputs.items():
        if not carries[i]:
            found.append(None)
            continue
        other = 1.0 if i == 0 else factor * wide(inputs[3 - i] if 3 - i in inputs else call.step.args[3 - i])
        found.append(summed_to(maps * other, x))
    return tuple(found)


def _references(call: Call) -> list[int]:
    return [i for i, argument in enumerate(call.step.args[:3]) if isinstance(argument, Ref)]


def product(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Matrix product: its vector-Jacobian product, shared out evenly among the factors that carry relevance."""
    if call.step.operation in ("addmm", "baddbmm") and isinstance(call.step.args[0], Ref):
        raise RelevanceError(f"'{call.name}' adds what is made of the image to a product: write it as a sum")
    return linear_map(call, signal / sum(call.carries))


def division(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """The divisor counts as a constant."""
    x = call.inputs[0]
    if len(call.inputs) > 1:
        divisor: Tensor | float = wide(call.inputs[1])
    else:
        divisor = call.argument(1, "other")
    if call.step.kwargs.get("rounding_mode") is not None:
        raise RelevanceError(f"'{call.name}' divides and rounds: it has no relevance")
    return (summed_to(by_map(signal, call.output) / divisor, x), *(None for _ in call.inputs[1:]))


def by_first(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Linear in the first input; where it samples, by the others, counts as a constant."""
    return linear_map_of(call, signal, [i == 0 and carries for i, carries in enumerate(call.carries)])


def interpolation(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """a + w (b - a): linear in a and b; w counts as a constant."""
    live = [i for i, argument in enumerate(call.step.args[:3]) if isinstance(argument, Ref)]
    return linear_map_of(call, signal, [i < 2 and c for i, c in zip(live, call.carries, strict=True)])


def gated_half(call: Call, signal: Tensor) -> tuple[Tensor]:
    """a sigmoid(b), a and b the halves of the input: the gate counts as a constant."""
    (x,) = call.inputs
    dim = call.argument(1, "dim", -1) % x.dim()
    scale = wide(x).chunk(2, dim)[1].sigmoid()
    maps = by_map(signal, call.output) * scale
    return (torch.cat([maps, torch.zeros_like(maps)], dim + 1).flatten(0, 1),)


def softmax(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Its vector-Jacobian product (AttnLRP, equation 10, in terms of G)."""
    y = wide(call.output)
    dim = call.argument(1, "dim") % y.dim()
    maps = by_map(signal, call.output)
    return ((y * (maps - (maps * y).sum(dim + 1, keepdim=True))).flatten(0, 1),)


def attention(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Scaled dot product attention as the product, softmax and product that it is made of."""
    parts = _Attention.of(call)
    from_q, from_k, from_v = (parts.inputs.get(i) is not None and call.carries[parts.inputs[i]] for i in range(3))
    maps = by_map(signal, call.output) / max(1, (from_q or from_k) + from_v)
    to_weights = parts.dropped * (maps @ parts.v.transpose(-2, -1))
    to_scores = to_weights - parts.weights * to_weights.sum(-1, keepdim=True)
    to_scores = to_scores * (parts.scale / max(1, from_q + from_k))
    return parts.each(
        to_scores @ parts.k if from_q else None,
        to_scores.transpose(-2, -1) @ parts.q if from_k else None,
        parts.dropped.transpose(-2, -1) @ maps if from_v else None,
    )


def constant_attention(call: Call, signal: Tensor) -> tuple[Tensor | None, ...]:
    """Scaled dot product attention whose weights count as constants: all relevance goes to the values (CP-LRP)."""
    parts = _Attention.of(call)
    return parts.each(None, None, parts.dropped.transpose(-2, -1) @ by_map(signal, call.output))


@dataclass(frozen=True)
class _Attention:
    """What scaled dot product attention is made of.

    Attributes:
        q: queries (B, ..., n, d).
        k: keys (B, ..., m, d).
        v: values (B, ..., m, e).
        weights: softmax of the scores (B, ..., n, m).
        dropped: the same after dropout.
        scale: factor of the scores.
        inputs: of queries 0, keys 1, values 2, which of the step's inputs they are; a learned query is none.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    weights: Tensor
    dropped: Tensor
    scale: float
    inputs: Mapping[int, int]

    @classmethod
    def of(cls, call: Call) -> _Attention:
        """Those of a recorded step."""
        if call.step.kwargs.get("enable_gqa"):
            raise RelevanceError(f"'{call.name}' shares keys among heads (enable_gqa): repeat them instead")
        args, kwargs = call.step.args, call.step.kwargs
        given = [*args[:3], *(kwargs[name] for name in ("query", "key", "value")[len(args[:3]) :])]
        which = [i for i, argument in enumerate(given) if isinstance(argument, Ref)]
        if len(which) != len(call.inputs):
            raise RelevanceError(f"'{call.name}' is attention whose mask depends on the image: write attention out")
        found = dict(zip(which, call.inputs, strict=True))
        q, k, v = (wide(found.get(i, argument)) for i, argument in enumerate(given))
        scale = kwargs.get("scale") or 1 / math.sqrt(q.shape[-1])
        scores = (q @ k.transpose(-2, -1)) * scale
        mask = call.argument(3, "attn_mask", None)
        if call.argument(5, "is_causal", False):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        weights = scores.softmax(-1)
        dropped = weights if call.kept is None else wide(call.kept)
        return cls(q, k, v, weights, dropped, scale, {i: position for position, i in enumerate(which)})

    def each(self, *maps: Tensor | None) -> tuple[Tensor | None, ...]:
        """Maps (K, B, ...) of queries, keys and values to a signal for each of the step's inputs."""
        found = (maps[i] for i in self.inputs)
        return tuple(None if m is None else m.flatten(0, 1) for m in found)


def layer_norm(call: Call, signal: Tensor) -> tuple[Tensor]:
    """Linear in its input, with the deviation constant: the mean is subtracted from the signal too."""
    (x,) = call.inputs
    dims = tuple(range(-len(call.argument(1, "normalized_shape")), 0))
    return (_normalised(call, signal, x, dims, call.argument(2, "weight"), call.argument(4, "eps", 1e-5)),)


def rms_norm(call: Call, signal: Tensor) -> tuple[Tensor]:
    """The root of the mean square counts as a constant."""
    (x,) = call.inputs
    dims = tuple(range(-len(call.argument(1, "normalized_shape")), 0))
    eps = call.argument(3, "eps", None)
    scale = torch.rsqrt(wide(x).square().mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    weight = call.argument(2, "weight")
    return (times(signal if weight is None else signal * weight, scale),)


def _normalised(
    call: Call, signal: Tensor, x: Tensor, dims: tuple[int, ...], weight: Tensor | None, eps: float
) -> Tensor:
    inverse_deviation = torch.rsqrt(wide(x).var(dims, unbiased=False, keepdim=True) + eps)
    scaled = times(signal if weight is None else signal * weight, inverse_deviation)
    return scaled - scaled.mean(dims, keepdim=True)


def group_norm(call: Call, signal: Tensor) -> tuple[Tensor]:
    """`layer_norm` over the channels and pixels of a group."""
    (x,) = call.inputs
    groups, weight = call.argument(1, "num_groups"), call.argument(2, "weight")
    weighted = signal if weight is None else signal * per_channel(weight, x)
    shape = (x.shape[0], groups, -1)
    found = _normalised(
        call,
        weighted.reshape(signal.shape[0], groups, -1),
        x.reshape(shape),
        (-1,),
        None,
        call.argument(4, "eps", 1e-5),
    )
    return (found.reshape(signal.shape),)


def instance_norm(call: Call, signal: Tensor) -> tuple[Tensor]:
    """`layer_norm` over the pixels of a channel, or a factor of each channel where it has running statistics."""
    (x,) = call.inputs
    weight, variance, eps = call.argument(1, "weight"), call.argument(4, "running_var"), call.argument(7, "eps", 1e-5)
    weighted = signal if weight is None else signal * per_channel(weight, x)
    if not call.argument(5, "use_input_stats", True):
        return (weighted * per_channel(torch.rsqrt(variance + eps), x),)
    return (_normalised(call, weighted, x, tuple(range(2, x.dim())), None, eps),)


_ACTIVATIONS = """abs arctan asinh atan celu elu erf expm1 gelu hardshrink hardswish leaky_relu log1p mish pow prelu
relu6 rrelu selu silu sin sinh softshrink softsign sqrt square tanh tanhshrink""".split()  # noqa: SIM905
_GATES = """sigmoid hardsigmoid rsqrt reciprocal std var norm linalg_vector_norm linalg_norm std_mean var_mean sign sgn
heaviside""".split()  # noqa: SIM905
_PRODUCTS = "matmul bmm einsum addmm baddbmm mm mv bilinear tensordot dot inner outer".split()  # noqa: SIM905

NONLINEAR: Mapping[Hashable, Rule] = {
    **dict.fromkeys(_ACTIVATIONS, activation),
    **dict.fromkeys(_GATES, gate),
    **dict.fromkeys(_PRODUCTS, product),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "hardtanh"), clamping),
    "addcmul": multiply_add,
    "div": division,
    "glu": gated_half,
    "grid_sampler": by_first,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "lerp": interpolation,
    "mul": scaling,
    "relu": relu,
    "rms_norm": rms_norm,
    "scaled_dot_product_attention": attention,
    "softmax": softmax,
}
