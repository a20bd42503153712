"""The z^B rule of the first layer, for images of bounded range (Montavon et al. 2017, "deep Taylor decomposition").

For inputs l <= x <= h, weights w = w+ + w- of the convolution with its batch norm multiplied in, and relevance R_k at
the output of the first ReLU:

    z_k = sum_j (x_j w_jk - l w+_jk - h w-_jk) + b_k - l b+_k - h b-_k
    R_j = sum_k ((x_j - l) w+_jk + (x_j - h) w-_jk) R_k / (z_k + epsilon sign z_k)

The bounds are zero-padded like the image. With l = 0, h = 1 and x in [0, 1] relevance keeps its sign: R_k >= 0 gives
R_j >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_isnet.relevance import transposes
from cxr_isnet.relevance.errors import RelevanceError
from cxr_isnet.relevance.forward import ForwardPass, fused_bias, fused_weight
from cxr_isnet.relevance.signal import inverse, times
from cxr_isnet.relevance.trace import Trace


@dataclass(frozen=True)
class FirstLayer:
    """The convolution that reads the image, with the batch norm and the ReLU that follow it, if they do.

    Attributes:
        conv: step of the convolution.
        norm: step of its batch norm, or None.
        last: step whose output's relevance the rule takes: the ReLU, else the batch norm, else the convolution.
        low: smallest value an image can have.
        high: largest value.
        epsilon: stabiliser of the denominator.
    """

    conv: int
    norm: int | None
    last: int
    low: float
    high: float
    epsilon: float

    @classmethod
    def find(cls, trace: Trace, low: float, high: float, epsilon: float) -> FirstLayer:
        """First layer of a network.

        Args:
            trace: the network.
            low: smallest value an image can have.
            high: largest value.
            epsilon: stabiliser of the denominator.

        Raises:
            RelevanceError: if the image is read by anything but one convolution, or not low < high.
        """
        readers = [r for r in trace.readers[trace.image] if r not in trace.sizes]
        if len(readers) != 1 or trace.steps[readers[0]].operation is not nn.Conv2d:
            names = [trace.steps[r].name for r in readers]
            raise RelevanceError(
                f"the z^B rule needs one convolution that reads the image; it is read by {names}. Pass "
                "image_range=None to use the rules' own first layer"
            )
        if not high > low:
            raise RelevanceError(f"image_range is ({low}, {high}); the second must be larger")
        conv = readers[0]
        norm = trace.batch_norm_of.get(conv)
        last = conv if norm is None else norm
        if len(trace.readers[last]) == 1 and trace.steps[trace.readers[last][0]].operation is nn.ReLU:
            last = trace.readers[last][0]
        return cls(conv, norm, last, low, high, epsilon)

    def relevance(self, run: ForwardPass, relevance: Tensor) -> Tensor:
        """Relevance of the image, in float32 or wider whatever autocast does: shares of both signs nearly cancel here.

        Args:
            run: a forward pass.
            relevance: (K * B, C', h, w), at the output of `last`.

        Returns:
            (K * B, C, H, W).
        """
        image: Tensor = run.values[run.trace.image]
        with torch.autocast(image.device.type, enabled=False):
            return self._relevance(run, image, relevance)

    def _relevance(self, run: ForwardPass, image: Tensor, relevance: Tensor) -> Tensor:
        module = cast(nn.Conv2d, run.trace.steps[self.conv].module)
        step = run.trace.steps[self.conv]
        weight = module.weight if self.norm is None else fused_weight(run, step, self.norm)
        bias = fused_bias(run, step, self.norm)
        before_relu = run.values[self.conv if self.norm is None else self.norm]
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        bounds = torch.ones_like(image[:1])
        bound = F.conv2d(
            bounds,
            self.low * positive + self.high * negative,
            None,
            module.stride,
            module.padding,
            module.dilation,
            module.groups,
        )
        if bias is not None:
            bound = bound + (self.low * bias.clamp(min=0) + self.high * bias.clamp(max=0))[:, None, None]
        share = times(relevance, inverse(before_relu.to(bound.dtype) - bound, self.epsilon))
        moved = _transposed(module, share, (positive, negative), image.shape[2:])
        return times(moved[0], image - self.low) + times(moved[1], image - self.high)


def _transposed(
    module: nn.Conv2d, share: Tensor, weights: tuple[Tensor, Tensor], size: torch.Size
) -> tuple[Tensor, ...]:
    """Transposed convolution of `share` (N, C_out, h, w) with both weights, each (N, C_in, *size).

    For a grey image there are two output channels in all, for which torch's transposed convolution is slow on a CPU:
    one matrix product and `fold` is the same map in a quarter of the time.
    """
    if module.groups != 1:
        return tuple(transposes.convolution(module, share, w, size) for w in weights)
    columns = torch.cat(weights, 1).flatten(1).t() @ share.flatten(2)
    kernel = weights[0].shape[2:]
    both = F.fold(columns, size, kernel, module.dilation, transposes.checked_padding(module), module.stride)
    return both.chunk(2, 1)
