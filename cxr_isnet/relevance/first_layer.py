"""Rules of the layer that reads the image, where an input of 0 can have relevance: a black pixel is evidence too.

With weights w = w+ + w- of the convolution, its batch norm multiplied in, and relevance R_k at the output of the ReLU
behind it, if there is one:

    z^B    R_j = sum_k ((x_j - l) w+_jk + (x_j - h) w-_jk) R_k / z_k,   l <= x <= h,
           z_k = sum_j (x_j w_jk - l w+_jk - h w-_jk) + b_k - l b+_k - h b-_k
    flat   R_j = sum_k R_k / (number of inputs of k)
    w^2    R_j = sum_k w_jk^2 R_k / (sum_j w_jk^2 + b_k^2)

each denominator with a stabiliser. Padding is 0 in the bounds too, and no input. With l = 0, h = 1 and x in [0, 1] all
three keep the sign of relevance.

Source:
    Montavon et al., Pattern Recognition 65, 2017 (z^B, w^2); Lapuschkin et al., Nature Communications 10, 2019 (flat).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.signal import check_not_negative, inverse, times
from cxr_isnet.relevance.trace import IMAGE, Call, ForwardPass, Trace, wide
from cxr_isnet.relevance.transposes import Convolution, linear_map

Bound = float | Sequence[float]
"""One value for all channels of the image, or one for each."""


@dataclass(frozen=True)
class _Reading:
    """A layer that reads an image, to share its relevance out.

    Attributes:
        convolution: settings of the layer.
        weight: with its batch norm multiplied in.
        bias: likewise, or None.
        output: of the layer with its batch norm, (B, C', h, w).
        image: (B, C, H, W), padded where the layer reads it padded.
        ones: (1, C, H, W), 0 where it is padded.
    """

    convolution: Convolution
    weight: Tensor
    bias: Tensor | None
    output: Tensor
    image: Tensor
    ones: Tensor

    def transposed(self, share: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        """Transposed convolution of `share` (N, C', h, w) with each of the weights, to (N, C, H, W).

        For a grey image there are few output channels in all, for which torch's transposed convolution is slow on a
        CPU: one matrix product and `fold` is the same map in a quarter of the time.
        """
        convolution, size = self.convolution, self.image.shape[2:]
        if convolution.groups != 1:
            return tuple(convolution.transposed(share, w, size) for w in weights)
        columns = torch.cat(weights, 1).flatten(1).t() @ share.flatten(2)
        kernel, whole = weights[0].shape[2:], convolution.padded(size)
        moved = F.fold(columns, whole, kernel, convolution.dilation, convolution.padding, convolution.stride)
        return moved[..., : size[0], : size[1]].chunk(len(weights), 1)


@dataclass(frozen=True)
class FlatRule:
    """Every input of an output gets the same.

    Attributes:
        epsilon: stabiliser of the denominator, >= 0.
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_not_negative("epsilon", self.epsilon)

    def relevance(self, layer: _Reading, relevance: Tensor) -> Tensor:
        """Relevance of the image from that of the layer's output (K * B, C', h, w)."""
        return _by_weight(layer, relevance, torch.ones_like(layer.weight), None, self.epsilon)


@dataclass(frozen=True)
class WSquareRule:
    """By the squared weights, whatever the input is.

    Attributes:
        epsilon: stabiliser of the denominator, >= 0.
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_not_negative("epsilon", self.epsilon)

    def relevance(self, layer: _Reading, relevance: Tensor) -> Tensor:
        """Relevance of the image from that of the layer's output (K * B, C', h, w)."""
        bias = None if layer.bias is None else layer.bias.square()
        return _by_weight(layer, relevance, layer.weight.square(), bias, self.epsilon)


@dataclass(frozen=True)
class BoxRule:
    """z^B, for images of bounded range.

    Attributes:
        low: smallest value an image can have.
        high: largest value.
        epsilon: stabiliser of the denominator, >= 0.
        biases: biases take their share of relevance, by the bounds that the rule gives them. zennit leaves them out.
    """

    low: Bound = 0.0
    high: Bound = 1.0
    epsilon: float = 1e-6
    biases: bool = True

    def __post_init__(self) -> None:
        if not torch.as_tensor(self.high).gt(torch.as_tensor(self.low)).all():
            raise RelevanceError(f"image_range is ({self.low}, {self.high}); the second must be larger")
        check_not_negative("epsilon", self.epsilon)

    def relevance(self, layer: _Reading, relevance: Tensor) -> Tensor:
        """Relevance of the image from that of the layer's output (K * B, C', h, w)."""
        image, ones, convolution = layer.image, layer.ones, layer.convolution
        low, high = _by_channel(self.low, image), _by_channel(self.high, image)
        positive, negative = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            bound = convolution(ones * low, positive, None) + convolution(ones * high, negative, None)
        else:
            bound = convolution(ones, low * positive + high * negative, None)
        if layer.bias is not None and self.biases:
            lowest, highest = _lowest(self.low), _highest(self.high)
            bound = bound + (lowest * layer.bias.clamp(min=0) + highest * layer.bias.clamp(max=0))[:, None, None]
        elif layer.bias is not None:
            bound = bound + layer.bias[:, None, None]
        share = times(relevance, inverse(layer.output.to(bound.dtype) - bound, self.epsilon))
        from_low, from_high = layer.transposed(share, positive, negative)
        return times(from_low, image - low) + times(from_high, image - high)


FirstRule = BoxRule | FlatRule | WSquareRule


@dataclass(frozen=True)
class FirstLayer:
    """The convolution that reads the image, with the batch norm and the ReLU that follow it, if they do.

    Attributes:
        rule: how it shares relevance out.
        pad: node that pads the image with zeros for it, as networks of TensorFlow do, or None.
        conv: node of the convolution.
        norm: node of its batch norm, or None.
        last: node whose output's relevance the rule takes: the ReLU, else the batch norm, else the convolution.
    """

    rule: FirstRule
    pad: int | None
    conv: int
    norm: int | None
    last: int

    @classmethod
    def find(cls, trace: Trace, rule: FirstRule) -> FirstLayer:
        """First layer of a network.

        Raises:
            RelevanceError: if the image is read by anything but one convolution, or the relevance of a layer inside is
                wanted.
        """
        pad = trace.sole_reader(IMAGE, "pad")
        source = IMAGE if pad is None else pad
        readers = trace.readers[source]
        if (
            len(readers) != 1
            or trace.nodes[readers[0]].operation != "conv2d"
            or trace.nodes[readers[0]].inputs != (source,)
        ):
            names = [trace.nodes[r].name for r in readers]
            raise RelevanceError(
                f"the {_NAMES[type(rule)]} rule needs one convolution that reads the image; it is read by {names}. "
                "Pass image_range=None to use the rules' own first layer"
            )
        conv = readers[0]
        norm = trace.batch_norm_of.get(conv)
        last = conv if norm is None else norm
        gate = trace.sole_reader(last, "relu")
        found = cls(rule, pad, conv, norm, last if gate is None else gate)
        for name, index in trace.layers.items():
            if index < found.last:
                raise RelevanceError(
                    f"'{name}' lies inside the first layer, whose rule gives the image's relevance only"
                )
        return found

    def relevance(self, run: ForwardPass, relevance: Tensor) -> Tensor:
        """Relevance of the image.

        Args:
            run: a forward pass.
            relevance: (K * B, C', h, w), at the output of `last`.

        Returns:
            (K * B, C, H, W).
        """
        image = wide(run.values[IMAGE])
        ones = torch.ones_like(image[:1])
        pad = None
        if self.pad is not None:
            pad = Call(run.steps[self.pad], "", (image,), run.values[self.pad], carries=(True,))
            if pad.argument(2, "mode", "constant") != "constant" or pad.argument(3, "value", 0):
                raise RelevanceError(
                    "the image is padded with something else than zeros: pass image_range=None to use the rules' own "
                    "first layer"
                )
            image, ones = wide(run.values[self.pad]), pad.step.again([ones])
        call = run.call(self.conv, norm_behind=self.norm)
        weight, bias, _ = call.affine()
        output = wide(run.values[self.conv if self.norm is None else self.norm])
        found = self.rule.relevance(_Reading(Convolution.of(call), weight, bias, output, image, ones), relevance)
        if pad is None:
            return found
        (inner,) = linear_map(pad, found)
        assert inner is not None
        return inner


_NAMES = {BoxRule: "z^B", FlatRule: "flat", WSquareRule: "w^2"}


def _by_weight(layer: _Reading, relevance: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """Relevance by a weight that is not negative, whatever the input is."""
    (found,) = layer.transposed(times(relevance, inverse(layer.convolution(layer.ones, weight, bias), epsilon)), weight)
    return found * layer.ones


def _by_channel(bound: Bound, image: Tensor) -> float | Tensor:
    if isinstance(bound, int | float):
        return bound
    if len(bound) not in (1, image.shape[1]):
        raise RelevanceError(
            f"image_range has {len(bound)} values for images of {image.shape[1]} channels: give one for all, or one "
            "for each"
        )
    return torch.as_tensor(bound, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)


def _lowest(bound: Bound) -> float:
    return bound if isinstance(bound, int | float) else min(bound)


def _highest(bound: Bound) -> float:
    return bound if isinstance(bound, int | float) else max(bound)
