"""Polarity by the picture itself: whether it looks like a chest X-ray or like the negative of one."""

import numpy as np
from numpy.typing import NDArray

NEGATIVE_BELOW = -0.3
"""Scores below this are flagged. Of 2109 X-rays of five sources one was flagged, and of their negatives all but six
(tests/imaging/test_polarity.py). The contrasts were chosen on three of the sources, with the scores of all in view, so
the rates are somewhat optimistic."""

_SIDE = 64
_FLAT = 1e-6

# Regions of a chest as shares of the height and of the width: first row, last row, first column, last column.
_MEDIASTINUM = ((0.25, 0.80, 0.44, 0.56),)
_LUNGS = ((0.25, 0.60, 0.18, 0.36), (0.25, 0.60, 0.64, 0.82))
_ABDOMEN = ((0.82, 0.97, 0.30, 0.70),)
_UPPER_CORNERS = ((0.0, 0.12, 0.0, 0.12), (0.0, 0.12, 0.88, 1.0))

_CONTRASTS = ((1.0, _MEDIASTINUM, _LUNGS), (0.5, _ABDOMEN, _LUNGS), (0.5, _MEDIASTINUM, _UPPER_CORNERS))
"""Weight, regions that are bright in a chest X-ray, regions that are dark."""


def polarity_score(image: NDArray[np.floating]) -> float:
    """How much denser the mediastinum and the abdomen look than the lungs and the air beside the neck.

    Args:
        image: (rows, columns) in any range; a frontal chest, upright.

    Returns:
        The sum of weighted contrasts in standard deviations of the image: around 2 for a chest X-ray, around -2 for its
        negative, 0 for an image of one grey.
    """
    small = downsample(image)
    spread = float(small.std())
    if spread <= _FLAT * float(np.abs(small).max()):
        return 0.0
    return float(sum(w * (_mean(small, bright) - _mean(small, dark)) for w, bright, dark in _CONTRASTS)) / spread


def downsample(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Means of 64 x 64 blocks of as nearly equal size as possible; nearest pixels of a smaller image."""
    rows, columns = (np.arange(_SIDE) * side // _SIDE for side in image.shape)
    if min(image.shape) < _SIDE:
        return np.asarray(image, dtype=np.float64)[np.ix_(rows, columns)]
    sums = np.add.reduceat(np.add.reduceat(image, columns, axis=1), rows, axis=0)
    heights, widths = (np.diff(starts, append=side) for starts, side in zip((rows, columns), image.shape, strict=True))
    return np.asarray(sums / np.outer(heights, widths))


def _mean(small: NDArray[np.float64], regions: tuple[tuple[float, float, float, float], ...]) -> float:
    means = [
        small[int(top * _SIDE) : int(bottom * _SIDE), int(left * _SIDE) : int(right * _SIDE)].mean()
        for top, bottom, left, right in regions
    ]
    return float(np.mean(means))
