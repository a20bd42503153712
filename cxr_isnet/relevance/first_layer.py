"""The z^B rule of the first layer, for images of bounded range (Montavon et al. 2017, "deep Taylor decomposition").

For inputs l <= x <= h, weights w = w+ + w- of the convolution with its batch norm multiplied in, and relevance R_k at
the output of the first ReLU:

    z_k = sum_j (x_j w_jk - l w+_jk - h w-_jk) + b_k - l b+_k - h b-_k
    R_j = sum_k ((x_j - l) w+_jk + (x_j - h) w-_jk) R_k / (z_k + epsilon sign z_k)

The bounds are zero-padded like the image. With l = 0, h = 1 and x in [0, 1] relevance keeps its sign: R_k >= 0 gives
R_j >= 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.signal import inverse, times
from cxr_isnet.relevance.trace import IMAGE, Call, ForwardPass, Trace, wide
from cxr_isnet.relevance.transposes import Convolution, is_one_sided, linear_map

Bound = float | Sequence[float]
"""One value for all channels of the image, or one for each."""


@dataclass(frozen=True)
class FirstLayer:
    """The convolution that reads the image, with the batch norm and the ReLU that follow it, if they do.

    Attributes:
        pad: node that pads the image with zeros for it, as networks of TensorFlow do, or None.
        conv: node of the convolution.
        norm: node of its batch norm, or None.
        last: node whose output's relevance the rule takes: the ReLU, else the batch norm, else the convolution.
        low: smallest value an image can have.
        high: largest value.
        epsilon: stabiliser of the denominator.
    """

    pad: int | None
    conv: int
    norm: int | None
    last: int
    low: Bound
    high: Bound
    epsilon: float

    @classmethod
    def find(cls, trace: Trace, low: Bound, high: Bound, epsilon: float) -> FirstLayer:
        """First layer of a network.

        Args:
            trace: the network.
            low: smallest value an image can have.
            high: largest value.
            epsilon: stabiliser of the denominator.

        Raises:
            RelevanceError: if the image is read by anything but one convolution.
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
                f"the z^B rule needs one convolution that reads the image; it is read by {names}. Pass "
                "image_range=None to use the rules' own first layer"
            )
        conv = readers[0]
        norm = trace.batch_norm_of.get(conv)
        last = conv if norm is None else norm
        gate = trace.sole_reader(last, "relu")
        return cls(pad, conv, norm, last if gate is None else gate, low, high, epsilon)

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
        call = Call(run.steps[self.conv], "", (image,), run.values[self.conv])
        if is_one_sided(call):
            raise RelevanceError(
                "the first convolution pads one side more than the other (padding='same' with an even kernel): pass "
                "image_range=None to use the rules' own first layer"
            )
        convolution = Convolution.of(call)
        weight, bias = fused_weight(run, self.conv, self.norm), fused_bias(run, self.conv, self.norm)
        before_relu = run.values[self.conv if self.norm is None else self.norm]
        low, high = _by_channel(self.low, image), _by_channel(self.high, image)
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        if isinstance(low, Tensor) or isinstance(high, Tensor):
            bound = convolution(ones * low, positive, None) + convolution(ones * high, negative, None)
        else:
            bound = convolution(ones, low * positive + high * negative, None)
        if bias is not None:
            lowest, highest = _lowest(self.low), _highest(self.high)
            bound = bound + (lowest * bias.clamp(min=0) + highest * bias.clamp(max=0))[:, None, None]
        share = times(relevance, inverse(wide(before_relu).to(bound.dtype) - bound, self.epsilon))
        moved = _transposed(convolution, share, (positive, negative), image.shape[2:])
        found = times(moved[0], image - low) + times(moved[1], image - high)
        if pad is None:
            return found
        (inner,) = linear_map(pad, found)
        assert inner is not None
        return inner


def _by_channel(bound: Bound, image: Tensor) -> float | Tensor:
    if isinstance(bound, int | float):
        return bound
    return torch.as_tensor(bound, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)


def _lowest(bound: Bound) -> float:
    return bound if isinstance(bound, int | float) else min(bound)


def _highest(bound: Bound) -> float:
    return bound if isinstance(bound, int | float) else max(bound)


def fused_weight(run: ForwardPass, index: int, norm: int | None) -> Tensor:
    """Weight of a convolution or linear step, the batch norm at step `norm` behind it multiplied in."""
    call = Call(run.steps[index], "", (), run.values[index])
    weight: Tensor = call.argument(1, "weight")
    return weight if norm is None else weight * run.kept[norm].scale.reshape(-1, *([1] * (weight.dim() - 1)))


def fused_bias(run: ForwardPass, index: int, norm: int | None) -> Tensor | None:
    """Bias (C,) of a convolution or linear step with the batch norm behind it, if any; None where there is none."""
    call = Call(run.steps[index], "", (), run.values[index])
    bias: Tensor | None = call.argument(2, "bias")
    if norm is None:
        return bias
    affine = run.kept[norm]
    shifted: Tensor = (-affine.mean if bias is None else bias - affine.mean) * affine.scale
    return shifted if affine.bias is None else shifted + affine.bias


def _transposed(
    convolution: Convolution, share: Tensor, weights: tuple[Tensor, Tensor], size: torch.Size
) -> tuple[Tensor, ...]:
    """Transposed convolution of `share` (N, C_out, h, w) with both weights, each (N, C_in, *size).

    For a grey image there are two output channels in all, for which torch's transposed convolution is slow on a CPU:
    one matrix product and `fold` is the same map in a quarter of the time.
    """
    if convolution.groups != 1:
        return tuple(convolution.transposed(share, w, size) for w in weights)
    columns = torch.cat(weights, 1).flatten(1).t() @ share.flatten(2)
    kernel = weights[0].shape[2:]
    both = F.fold(columns, size, kernel, convolution.dilation, convolution.padding, convolution.stride)
    return both.chunk(2, 1)
