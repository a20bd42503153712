"""When two pictures are the same picture: a hash to find candidates, a correlation to decide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Floats = NDArray[np.floating[Any]]

HASH_SIDE = 8
AGREEMENT_SIDE = 64
"""Rows and columns at which two pictures are compared."""

SAME_PICTURE = 0.94
"""Agreement from which two pictures are taken to be one.

Of 300 crops of real X-rays, resized, re-exposed and compressed as JPEG, one in a hundred agrees with its source by less
than 0.973. Of two million pairs among 2,109 real X-rays the 4,000 likest were compared: those that turned out to be
different pictures agree by 0.928 at most.
"""

_SMOOTHING = 1.0
_DETAIL = 2.0
_RIM = 3
_FLAT = 1e-6


def perceptual_hash(picture: Floats) -> int:
    """64 bits that survive resizing, compression and exposure: signs of low cosine frequencies about their median.

    Args:
        picture: (side, side), the side a multiple of 32.
    """
    block = picture.shape[0] // 32
    small = picture.reshape(32, block, 32, block).mean(axis=(1, 3))
    waves = np.asarray(fft.dctn(small, norm="ortho"))[:HASH_SIDE, :HASH_SIDE].ravel()
    bits = waves > np.median(waves[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def averaging(start: float, length: float, cells: int, side: int) -> NDArray[np.float32]:
    """The matrix that averages a stretch of a line of pixels over equal cells.

    Args:
        start: where the stretch begins, as a share of the side.
        length: how long it is, as a share of the side.
        cells: number of cells.
        side: number of pixels.

    Returns:
        (cells, side); rows sum to 1 where the stretch lies inside the line.
    """
    edges = (start + length * np.arange(cells + 1) / cells) * side
    pixels = np.arange(side)
    inside = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return np.asarray(np.clip(inside, 0.0, None) / (length * side / cells), dtype=np.float32)


def agreement(first: Floats, second: Floats, window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)) -> float:
    """Correlation of the fine detail of a picture and of a window of another.

    Coarse shape is taken out first: all chests have it in common.

    Args:
        first: (side, side), any range.
        second: (side, side), any range.
        window: left, top, width and height in `second`, as shares of its side.

    Returns:
        -1 to 1; 0 when one of them is flat.
    """
    left, top, width, height = window
    side = len(first)
    whole = averaging(0.0, 1.0, AGREEMENT_SIDE, side)
    rows, columns = averaging(top, height, AGREEMENT_SIDE, side), averaging(left, width, AGREEMENT_SIDE, side)
    one, other = (_detail(picture) for picture in (whole @ first @ whole.T, rows @ second @ columns.T))
    norm = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / norm if norm > _FLAT else 0.0


def _detail(picture: Floats) -> Floats:
    smooth = ndimage.gaussian_filter(picture, _SMOOTHING)
    fine = smooth - ndimage.gaussian_filter(smooth, _DETAIL, mode="nearest")
    inner = fine[_RIM:-_RIM, _RIM:-_RIM]
    return np.asarray(inner - inner.mean())
