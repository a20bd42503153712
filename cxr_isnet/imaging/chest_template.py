"""Whether a picture looks like an upright frontal chest: correlation of its windows with a schematic one."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 16
"""Rows and columns of a downsampled window."""

SHORTEST_WINDOW = 0.5
"""Shortest side of a window, as a share of the image's side."""

FRONTAL_ABOVE = 0.2
"""Score of `frontal_score` below which an image is flagged.

Of 474 frontal images of adults of eight sources 1.5% are below; of small children 8% in one sample and 28% in another;
of adults' turned by 90 degrees 65%, by 180 degrees 14%, as negatives 36%. No lateral images were at hand: how many of
them are below is not known.
"""

_SHORTEST_OF_A_RADIOGRAPH = 0.7  # searched over smaller windows too, a turned chest is found somewhere in itself
_LENGTHS = (1.0, 0.9, 0.8, 0.7, 0.6, SHORTEST_WINDOW)
_STEP = 0.04
_FLAT = 1e-4


def frontal_score(image: NDArray[np.floating[Any]]) -> float:
    """Highest correlation of a large window of an image with a schematic chest: two dark fields beside a bright middle.

    Args:
        image: (side, side) in any range; the image is squeezed into the square.

    Returns:
        -1 to 1; an upright frontal chest has 0.3 to 0.8.
    """
    matrix = _averaging_matrices(len(image), _SHORTEST_OF_A_RADIOGRAPH)
    count = len(intervals(_SHORTEST_OF_A_RADIOGRAPH))
    centred = (image - image.mean()).astype(np.float32)
    cells = (matrix @ centred @ matrix.T).reshape(count, CELLS, count, CELLS)
    windows = cells.transpose(0, 2, 1, 3).reshape(count * count, CELLS * CELLS)
    squares = np.einsum("ij,ij->i", windows, windows) - windows.sum(axis=1) ** 2 / CELLS**2
    norms = np.sqrt(np.maximum(squares, 0.0))
    return float((windows @ chest_template() / np.maximum(norms, _FLAT * max(1.0, float(norms.max())))).max())


@cache
def chest_template() -> NDArray[np.float32]:
    """Vector (CELLS²,) of a schematic chest: soft tissue, air above the shoulders, two lungs; blurred, downsampled."""
    fine = 8 * CELLS
    share = (np.arange(fine) + 0.5) / fine
    y, x = share[:, None], share[None, :] - 0.5
    chest = np.full((fine, fine), 0.72)
    for side in (-1, 1):
        chest[((x - 0.21 * side) / 0.15) ** 2 + ((y - 0.47) / 0.33) ** 2 < 1] = 0.2
    chest[(y < 0.12) & (np.abs(x) > 0.22)] = 0.45
    blur = _gaussian_blur(fine, 0.6 * 8)
    small = (blur @ chest @ blur.T).reshape(CELLS, 8, CELLS, 8).mean(axis=(1, 3))
    template: NDArray[np.float32] = normalise(small.reshape(1, -1).astype(np.float32))[0]
    return template


def _gaussian_blur(side: int, deviation: float) -> NDArray[np.float64]:
    """Matrix (side, side) of a Gaussian filter of a line, mirrored at its ends; a model in use does without scipy."""
    reach = round(4 * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    mirrored = np.pad(np.eye(side), ((reach, reach), (0, 0)), mode="symmetric")
    return np.stack([(weights / weights.sum()) @ mirrored[start : start + 2 * reach + 1] for start in range(side)])


@cache
def intervals(shortest: float = SHORTEST_WINDOW) -> NDArray[np.float64]:
    """Start and length (intervals, 2) of every interval of a side that is not shorter, as shares of the side."""
    found = [
        (start, length)
        for length in _LENGTHS
        if length >= shortest
        for start in np.linspace(0.0, 1.0 - length, 1 + round((1.0 - length) / _STEP))
    ]
    return np.array(found)


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


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows shifted to mean 0 and scaled to norm 1; 0 where a row is flat."""
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.where(norms > _FLAT, centred / np.maximum(norms, _FLAT), 0.0), dtype=np.float32)


@cache
def _averaging_matrices(side: int, shortest: float) -> NDArray[np.float32]:
    return np.concatenate([averaging_matrix(start, length, CELLS, side) for start, length in intervals(shortest)])
