"""Windows of an image, downsampled to a few cells each: what a search over positions and sizes compares."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_isnet.imaging import CELLS, averaging_matrix, intervals, normalise


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


@cache
def _all_averaging_matrices(side: int) -> NDArray[np.float32]:
    return np.concatenate([averaging_matrix(start, length, CELLS, side) for start, length in intervals()])
