"""Windows of a picture, shrunk to a few cells each: what a search over places and sizes compares."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.checks.similarity import averaging

CELLS = 16
"""Rows and columns of a shrunk window."""

SMALLEST_WINDOW = 0.5
"""Shortest side of a window, as a share of the picture's."""

_LENGTHS = (1.0, 0.9, 0.8, 0.7, 0.6, SMALLEST_WINDOW)
_STEP = 0.04
_FLAT = 1e-4


@cache
def stretches() -> NDArray[np.float64]:
    """(stretches, 2): start and length of every stretch of a side, as shares of it."""
    found = [
        (start, length)
        for length in _LENGTHS
        for start in np.linspace(0.0, 1.0 - length, 1 + round((1.0 - length) / _STEP))
    ]
    return np.array(found)


@cache
def window_boxes() -> NDArray[np.float64]:
    """(windows, 4): left, top, width and height of every window, as shares of the picture's sides."""
    starts, lengths = stretches().T
    count = len(starts)
    return np.stack(
        [np.tile(starts, count), np.repeat(starts, count), np.tile(lengths, count), np.repeat(lengths, count)], axis=1
    )


def shrunk_windows(picture: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Every window of a picture as a vector of mean 0 and norm 1.

    Args:
        picture: (side, side).

    Returns:
        (windows, CELLS²) in the order of `window_boxes`; 0 where a window is flat.
    """
    shrink = _shrinking(len(picture))
    count = len(stretches())
    cells = (shrink @ picture.astype(np.float32) @ shrink.T).reshape(count, CELLS, count, CELLS)
    return normalised(cells.transpose(0, 2, 1, 3).reshape(count * count, CELLS * CELLS))


def shrunk(pictures: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Whole pictures, (n, side, side), as vectors (n, CELLS²) of mean 0 and norm 1; 0 where one is flat."""
    whole = averaging(0.0, 1.0, CELLS, pictures.shape[1])
    return normalised((whole @ pictures.astype(np.float32) @ whole.T).reshape(len(pictures), CELLS * CELLS))


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows shifted to mean 0 and scaled to norm 1; 0 where a row is flat."""
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.where(norms > _FLAT, centred / np.maximum(norms, _FLAT), 0.0), dtype=np.float32)


@cache
def _shrinking(side: int) -> NDArray[np.float32]:
    return np.concatenate([averaging(start, length, CELLS, side) for start, length in stretches()])
