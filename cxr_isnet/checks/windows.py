"""Windows of an image, downsampled to a few cells each: what a search over positions and sizes compares."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.imaging import CELLS, averaging_matrix, intervals, normalise


def downsample_windows(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Every window of an image, downsampled, as a vector of mean 0 and norm 1.

    Args:
        image: (side, side).

    Returns:
        (windows, CELLS²), rows of windows first; 0 where a window is flat.
    """
    matrix = _all_averaging_matrices(len(image))
    count = len(intervals())
    cells = (matrix @ image.astype(np.float32) @ matrix.T).reshape(count, CELLS, count, CELLS)
    return normalise(cells.transpose(0, 2, 1, 3).reshape(count * count, CELLS * CELLS))


def downsample(images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Whole images, n times (side, side), downsampled, as vectors (n, CELLS²) of mean 0 and norm 1; 0 where flat."""
    if not len(images):
        return np.zeros((0, CELLS * CELLS), dtype=np.float32)
    whole = averaging_matrix(0.0, 1.0, CELLS, len(images[0]))
    return normalise(np.stack([(whole @ image.astype(np.float32) @ whole.T).ravel() for image in images]))


@cache
def _all_averaging_matrices(side: int) -> NDArray[np.float32]:
    return np.concatenate([averaging_matrix(start, length, CELLS, side) for start, length in intervals()])
