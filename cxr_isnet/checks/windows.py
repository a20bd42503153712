"""Windows of an image, downsampled to a few cells each: what a search over positions and sizes compares."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 16
"""Rows and columns of a downsampled window."""

MIN_WINDOW = 0.5
"""Shortest side of a window, as a share of the image's side."""

_LENGTHS = (1.0, 0.9, 0.8, 0.7, 0.6, MIN_WINDOW)
_STEP = 0.04
_FLAT = 1e-4


def averaging_matrix(start: float, length: float, cells: int, side: int) -> NDArray[np.float32]:
    """Matrix (cells, side) that averages an interval of a line of pixels over equal cells.

    Args:
        start: of the interval, as a share of the side.
        length: of the interval, as a share of the side.
        cells: number of cells.
        side: number of pixels.

    Returns:
        (cells, side); rows sum to 1 where the interval lies inside the line.
    """
    edges = (start + length * np.arange(cells + 1) / cells) * side
    pixels = np.arange(side)
    inside = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return np.asarray(np.clip(inside, 0.0, None) / (length * side / cells), dtype=np.float32)


@cache
def intervals() -> NDArray[np.float64]:
    """Start and length (intervals, 2) of every interval of a side, as shares of it."""
    found = [
        (start, length)
        for length in _LENGTHS
        for start in np.linspace(0.0, 1.0 - length, 1 + round((1.0 - length) / _STEP))
    ]
    return np.array(found)


@cache
def window_boxes() -> NDArray[np.float64]:
    """Boxes (windows, 4) of all windows: left, top, width and height as shares of the image's sides."""
    starts, lengths = intervals().T
    count = len(starts)
    return np.stack(
        [np.tile(starts, count), np.repeat(starts, count), np.tile(lengths, count), np.repeat(lengths, count)], axis=1
    )


def downsample_windows(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Every window of an image, downsampled, as a vector of mean 0 and norm 1.

    Args:
        image: (side, side).

    Returns:
        (windows, CELLS²) in the order of `window_boxes`; 0 where a window is flat.
    """
    matrix = _all_averaging_matrices(len(image))
    count = len(intervals())
    cells = (matrix @ image.astype(np.float32) @ matrix.T).reshape(count, CELLS, count, CELLS)
    return normalise(cells.transpose(0, 2, 1, 3).reshape(count * count, CELLS * CELLS))


def downsample(images: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Whole images (n, side, side), downsampled, as vectors (n, CELLS²) of mean 0 and norm 1; 0 where one is flat."""
    whole = averaging_matrix(0.0, 1.0, CELLS, images.shape[1])
    return normalise((whole @ images.astype(np.float32) @ whole.T).reshape(len(images), CELLS * CELLS))


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows shifted to mean 0 and scaled to norm 1; 0 where a row is flat."""
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.where(norms > _FLAT, centred / np.maximum(norms, _FLAT), 0.0), dtype=np.float32)


@cache
def _all_averaging_matrices(side: int) -> NDArray[np.float32]:
    return np.concatenate([averaging_matrix(start, length, CELLS, side) for start, length in intervals()])
