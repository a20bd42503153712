"""Whether a picture looks like an upright frontal chest: a linear score of its greys in eight rows and columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FRONTAL_ABOVE = 0.0
"""Score of `frontal_score` below which an image is flagged.

Fitted to 1,000 X-rays of the NIH Clinical Center against the same ones turned (`benchmarks/frontal_score.py`). At
hospitals that it was not fitted to, of adults, children and bedside images, see `docs/results.md`. No lateral images
were at hand: how many of them are below is not known.
"""

_CELLS = 8
_BLACK, _SEEN = 0.04, 0.15
_SMALLEST = 0.25

_COEFFICIENTS = np.array(
    [
        [-0.012, -0.548, -0.249, 0.596],
        [0.499, -0.234, -0.403, -0.403],
        [0.462, 0.292, -0.313, -0.345],
        [-0.244, -0.120, -0.665, -0.563],
        [-0.888, -0.506, -0.710, -0.163],
        [-0.489, 0.040, 0.420, 1.585],
        [0.076, 0.055, 0.082, 0.982],
        [0.218, 0.263, 0.384, 0.902],
    ]
).ravel()
"""Of the eight rows, from the top; columns from the edge to the middle, left and right together."""

_INTERCEPT = -3.35


def frontal_score(image: NDArray[np.floating[Any]]) -> float:
    """How much the greys of an image are arranged as in an upright frontal chest; mirroring changes nothing.

    Args:
        image: (side, side) in any range, a multiple of 8 a side; the image is squeezed into the square.

    Returns:
        The log odds of upright against turned: 3 and more for most frontal chests, -5 for turned ones.
    """
    return float(frontal_features(image) @ _COEFFICIENTS + _INTERCEPT)


def frontal_features(image: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """What the score sees of an image: its ranks of grey within the field of view, in cells, left and right averaged.

    Args:
        image: as of `frontal_score`.

    Returns:
        (32,) of mean 0 and standard deviation 1; 0 for an image of one grey.
    """
    seen = _field_of_view(np.asarray(image, dtype=np.float64))
    ordered = np.sort(seen, axis=None)
    ranks = (np.searchsorted(ordered, seen, "left") + np.searchsorted(ordered, seen, "right")) / (2 * ordered.size)
    size = len(seen) // _CELLS
    cells = ranks.reshape(_CELLS, size, _CELLS, size).mean(axis=(1, 3))
    folded = ((cells + cells[:, ::-1]) / 2)[:, : _CELLS // 2].ravel()
    spread = folded.std()
    return np.asarray((folded - folded.mean()) / spread if spread > 0 else np.zeros_like(folded))


def _field_of_view(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The image without black rows and columns at its edges, stretched to its old size."""
    low, high = image.min(), image.max()
    bright = image > low + _BLACK * (high - low)
    kept = []
    for axis in (1, 0):
        lines = np.flatnonzero(bright.mean(axis=axis) > _SEEN)
        if len(lines) < _SMALLEST * len(image):
            return image
        span = lines[-1] + 1 - lines[0]
        kept.append(lines[0] + ((np.arange(len(image)) + 0.5) * span / len(image)).astype(np.intp))
    return image[np.ix_(*kept)]
