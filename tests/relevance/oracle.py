"""LRP as explicit dense matrices, in numpy, one image at a time: slow, and nothing in common with the code under test.

Every tensor between two ReLUs is an affine function of earlier *sources*: the image and the outputs of the ReLUs. A
`Value` keeps, for each source, the matrix of that function, split into contributions of either sign, so that
LRP-epsilon (which needs their sum) and LRP-alpha-beta (which needs both) follow from the same account of a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

Array = np.ndarray


@dataclass
class Value:
    """An affine function of the sources: sum over s of (plus[s] + minus[s]) @ source_s + bias_plus + bias_minus.

    `plus` holds what raises the value and `minus` what lowers it, as the sources stand.
    """

    shape: tuple[int, ...]
    plus: dict[int, Array]
    minus: dict[int, Array]
    bias_plus: Array
    bias_minus: Array


@dataclass
class Gate:
    """A ReLU: the source that it makes and the value that it reads."""

    source: int
    reads: Value


class Oracle:
    """Account of one network on one image (C, H, W)."""

    def __init__(self, image: Array) -> None:
        self.sources: list[Array] = [image.reshape(-1)]
        self.gates: list[Gate] = []
        n = image.size
        self.image = Value(
            image.shape,
            {0: np.diag((image.reshape(-1) >= 0) * 1.0)},
            {0: np.diag((image.reshape(-1) < 0) * 1.0)},
            np.zeros(n),
            np.zeros(n),
        )

    # ---- what a network is made of

    def relu(self, x: Value) -> Value:
        self.sources.append(np.maximum(self.number(x), 0))
        source = len(self.sources) - 1
        self.gates.append(Gate(source, x))
        n = self.sources[source].size
        return Value(x.shape, {source: np.eye(n)}, {source: np.zeros((n, n))}, np.zeros(n), np.zeros(n))

    def weighted(self, x: Value, layer: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None = None) -> Value:
        """A convolution or linear layer, with the batch norm behind it as part of its weights."""
        if isinstance(layer, nn.Linear):
            matrix, shape = array(layer.weight), (layer.out_features,)
            bias = np.zeros(layer.out_features) if layer.bias is None else array(layer.bias)
        else:
            matrix, shape = convolution_matrix(layer, x.shape)
            bias = np.zeros(shape[0]) if layer.bias is None else array(layer.bias)
            bias = np.repeat(bias, shape[1] * shape[2])
        if norm is not None:
            factor, shift = affine(norm, shape)
            matrix, bias = factor[:, None] * matrix, factor * bias + shift
        return self._through(x, matrix, bias, shape)

    def batch_norm(self, x: Value, norm: nn.BatchNorm2d) -> Value:
        factor, shift = affine(norm, x.shape)
        return self._through(x, np.diag(factor), shift, x.shape)

    def add(self, x: Value, y: Value) -> Value:
        def both(a: dict[int, Array], b: dict[int, Array]) -> dict[int, Array]:
            return {s: a.get(s, 0) + b.get(s, 0) for s in a.keys() | b.keys()}

        return Value(
            x.shape,
            both(x.plus, y.plus),
            both(x.minus, y.minus),
            x.bias_plus + y.bias_plus,
            x.bias_minus + y.bias_minus,
        )

    def concatenate(self, x: Value, y: Value) -> Value:
        """Along the channels."""
        n, m = x.bias_plus.size, y.bias_plus.size

        def stack(a: dict[int, Array], b: dict[int, Array]) -> dict[int, Array]:
            return {
                s: np.vstack(
                    [
                        a.get(s, np.zeros((n, self.sources[s].size))),
                        b.get(s, np.zeros((m, self.sources[s].size))),
                    ]
                )
                for s in a.keys() | b.keys()
            }

        return Value(
            (x.shape[0] + y.shape[0], *x.shape[1:]),
            stack(x.plus, y.plus),
            stack(x.minus, y.minus),
            np.concatenate([x.bias_plus, y.bias_plus]),
            np.concatenate([x.bias_minus, y.bias_minus]),
        )

    def max_pool(self, x: Value, size: int, stride: int, padding: int) -> Value:
        """The matrix that picks each window's winner."""
        numbers = self.number(x)
        windows, shape = pool_windows(x.shape, size, stride, padding)
        matrix = np.zeros((len(windows), numbers.size))
        for row, window in enumerate(windows):
            matrix[row, window[int(np.argmax(numbers[window]))]] = 1
        return self._through(x, matrix, np.zeros(len(windows)), shape)

    def average_pool(self, x: Value, size: int, stride: int, padding: int) -> Value:
        """Padding counts as zeros, as torch does it."""
        windows, shape = pool_windows(x.shape, size, stride, padding)
        matrix = np.zeros((len(windows), x.bias_plus.size))
        for row, window in enumerate(windows):
            matrix[row, window] = 1 / size**2
        return self._through(x, matrix, np.zeros(len(windows)), shape)

    def adaptive_average_pool(self, x: Value, size: tuple[int, int]) -> Value:
        channels, height, width = x.shape
        matrix = np.zeros((channels, *size, channels, height, width))
        for i in range(size[0]):
            rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
            for j in range(size[1]):
                columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
                for c in range(channels):
                    cells = matrix[c, i, j, c, rows, columns]
                    cells[...] = 1 / cells.size
        n = channels * size[0] * size[1]
        return self._through(x, matrix.reshape(n, -1), np.zeros(n), (channels, *size))

    # ---- what is asked of it

    def number(self, x: Value) -> Array:
        return self.positive(x) + self.negative(x)

    def positive(self, x: Value) -> Array:
        return sum((m @ self.sources[s] for s, m in x.plus.items()), x.bias_plus)

    def negative(self, x: Value) -> Array:
        return sum((m @ self.sources[s] for s, m in x.minus.items()), x.bias_minus)

    def epsilon(
        self, logits: Value, seed: Array, epsilon: float, z_b: tuple[float, float, float] | None = None
    ) -> list[Array]:
        """Relevance of every source for the quantity whose derivative by the logits is `seed`.

        R_j = a_j sum_k w_jk R_k / (z_k + epsilon sign z_k); at the first ReLU z^B, with `z_b` = (low, high, epsilon).
        """
        relevance = [np.zeros(s.size) for s in self.sources]
        for s in logits.plus:
            relevance[s] += self.sources[s] * ((logits.plus[s] + logits.minus[s]).T @ seed)
        for gate in reversed(self.gates):
            x, received = gate.reads, relevance[gate.source]
            if gate.source == 1 and z_b is not None:
                relevance[0] += self._z_b(x, received, *z_b)
                continue
            z = self.number(x)
            share = received / (z + epsilon * np.where(z >= 0, 1, -1))
            for s in x.plus:
                relevance[s] += self.sources[s] * ((x.plus[s] + x.minus[s]).T @ share)
        return relevance

    def alpha_beta(
        self,
        logits: Value,
        seed: Array,
        alpha: float,
        beta: float,
        epsilon: float,
        z_b: tuple[float, float, float] | None = None,
        contributions: bool = False,
    ) -> list[Array]:
        """R_j = a_j sum_k (alpha plus_jk / (P_k + epsilon) + beta minus_jk / (N_k - epsilon)) R_k.

        At the logits, where epsilon does not act, R_k is the logit times its seed (Bach et al. 2015); or, with
        `contributions`, alpha P + beta N.
        """
        relevance = [np.zeros(s.size) for s in self.sources]
        received = seed * self.number(logits)
        up, down = seed, seed
        if not contributions:
            raising, lowering = self.positive(logits), self.negative(logits)
            up = np.divide(received, raising, out=np.zeros_like(seed), where=raising > 0)
            down = np.divide(received, lowering, out=np.zeros_like(seed), where=lowering < 0)
        for s in logits.plus:
            relevance[s] += self.sources[s] * (alpha * logits.plus[s].T @ up + beta * logits.minus[s].T @ down)
        for gate in reversed(self.gates):
            x, received = gate.reads, relevance[gate.source]
            if gate.source == 1 and z_b is not None:
                relevance[0] += self._z_b(x, received, *z_b)
                continue
            up = received / (self.positive(x) + epsilon)
            down = received / (self.negative(x) - epsilon)
            for s in x.plus:
                relevance[s] += self.sources[s] * (alpha * x.plus[s].T @ up + beta * x.minus[s].T @ down)
        return relevance

    def _z_b(self, x: Value, received: Array, low: float, high: float, epsilon: float) -> Array:
        """z_k = sum_j (x_j w_jk - l w+_jk - h w-_jk) + b_k - l b+_k - h b-_k (Montavon et al. 2017)."""
        weight, bias, image = x.plus[0] + x.minus[0], x.bias_plus + x.bias_minus, self.sources[0]
        result = np.zeros_like(image)
        for k in range(bias.size):
            up, down = np.maximum(weight[k], 0), np.minimum(weight[k], 0)
            terms = image * weight[k] - low * up - high * down
            z = terms.sum() + bias[k] - low * max(bias[k], 0) - high * min(bias[k], 0)
            result += terms * received[k] / (z + epsilon * (1 if z >= 0 else -1))
        return result

    def _through(self, x: Value, matrix: Array, bias: Array, shape: tuple[int, ...]) -> Value:
        up, down = np.maximum(matrix, 0), np.minimum(matrix, 0)
        return Value(
            shape,
            {s: up @ x.plus[s] + down @ x.minus[s] for s in x.plus},
            {s: down @ x.plus[s] + up @ x.minus[s] for s in x.plus},
            up @ x.bias_plus + down @ x.bias_minus + np.maximum(bias, 0),
            down @ x.bias_plus + up @ x.bias_minus + np.minimum(bias, 0),
        )


def array(tensor: object) -> Array:
    return tensor.detach().double().cpu().numpy()


def affine(norm: nn.BatchNorm2d, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Factor and shift of a batch norm in evaluation mode, one for each value of a map of this shape."""
    factor = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
    shift = array(norm.bias) - array(norm.running_mean) * factor
    repeats = shape[1] * shape[2]
    return np.repeat(factor, repeats), np.repeat(shift, repeats)


def convolution_matrix(conv: nn.Conv2d, shape: tuple[int, ...]) -> tuple[Array, tuple[int, int, int]]:
    """Dense matrix of a convolution of zero-padded images of this shape, and the shape of its output."""
    weight = array(conv.weight)
    outs, per_group, kernel_height, kernel_width = weight.shape
    (sh, sw), (ph, pw), (dh, dw) = conv.stride, conv.padding, conv.dilation
    _, height, width = shape
    oh = (height + 2 * ph - dh * (kernel_height - 1) - 1) // sh + 1
    ow = (width + 2 * pw - dw * (kernel_width - 1) - 1) // sw + 1
    matrix = np.zeros((outs, oh, ow, *shape))
    for o in range(outs):
        first = o // (outs // conv.groups) * per_group
        for i, j, u, v in np.ndindex(oh, ow, kernel_height, kernel_width):
            row, column = i * sh - ph + u * dh, j * sw - pw + v * dw
            if 0 <= row < height and 0 <= column < width:
                matrix[o, i, j, first : first + per_group, row, column] += weight[o, :, u, v]
    return matrix.reshape(outs * oh * ow, -1), (outs, oh, ow)


def pool_windows(
    shape: tuple[int, ...], size: int, stride: int, padding: int
) -> tuple[list[Array], tuple[int, int, int]]:
    """For every value of a pooled map, the flat positions of the values it is made of."""
    channels, height, width = shape
    positions = np.arange(channels * height * width).reshape(shape)
    oh, ow = ((n + 2 * padding - size) // stride + 1 for n in (height, width))
    windows = []
    for c, i, j in np.ndindex(channels, oh, ow):
        top, left = i * stride - padding, j * stride - padding
        windows.append(positions[c, max(top, 0) : top + size, max(left, 0) : left + size].reshape(-1))
    return windows, (channels, oh, ow)
