"""Does a picture look like an upright frontal chest? Two marks, each with what it can and cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from cxr_isnet.checks.windows import CELLS, normalised, shrunk, shrunk_windows

LEAST_CHEST = 0.25
"""Resemblance to the drawn chest below which a picture is suspect."""

MOST_ODD = 0.65
"""Oddness above which a picture is suspect."""

LEAST_COMPANY = 40
"""Pictures below which none can be called odd among them."""

_COMPONENTS = 10
_NEAREST = 0.75
_ROUNDS = 3


def resemblance(pictures: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """How well some window of each picture fits a drawn chest: two dark fields beside a bright middle.

    Needs no other picture. Blind to much: a leg or a lung that is white may pass or fail.

    Args:
        pictures: (n, side, side).

    Returns:
        (n,) correlations, -1 to 1.
    """
    chest = _drawn_chest()
    bar = tqdm(pictures, desc="look for chests", unit="image", disable=None)
    return np.array([(shrunk_windows(picture) @ chest).max() for picture in bar], dtype=np.float32)


def frontal_outlier_score(pictures: NDArray[np.floating[Any]], sites: Sequence[str]) -> NDArray[np.float32]:
    """How much of each picture cannot be made of what is common to the others, or to the others of its site.

    The tables, and the images of a site, are taken to be chests in the main.

    Args:
        pictures: (n, side, side).
        sites: n names. A site that exposes or crops in its own way is judged by itself.

    Returns:
        (n,) norms of what is left over, 0 to about 1; 0 for all when there are fewer than LEAST_COMPANY.
    """
    vectors = shrunk(pictures)
    left = _odd_among(vectors)
    names = np.array(sites)
    for site in np.unique(names):
        own = names == site
        if LEAST_COMPANY <= own.sum() < len(names):
            left[own] = np.minimum(left[own], _odd_among(vectors[own]))
    return left


def _odd_among(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What principal components of one half of the pictures leave over of the other half.

    In halves, so that no picture explains itself. First the pictures nearest to the median picture are the examples, so
    that a few strangers of one kind do not excuse each other; then all that are not odd.
    """
    left = np.zeros(len(vectors), dtype=np.float32)
    if len(vectors) < LEAST_COMPANY:
        return left
    first = np.arange(len(vectors)) % 2 == 0
    nearness = vectors @ np.median(vectors, axis=0)
    examples = nearness >= np.quantile(nearness, 1 - _NEAREST)
    for _ in range(_ROUNDS):
        for half in (first, ~first):
            left[half] = _left_over(vectors[half], vectors[~half & examples])
        examples = left <= MOST_ODD
    return left


def _left_over(vectors: NDArray[np.float32], examples: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = examples.mean(axis=0)
    _, _, components = np.linalg.svd(examples - mean, full_matrices=False)
    common = components[:_COMPONENTS]
    centred = vectors - mean
    return np.asarray(np.linalg.norm(centred - centred @ common.T @ common, axis=1), dtype=np.float32)


@cache
def _drawn_chest() -> NDArray[np.float32]:
    """Soft tissue, air above the shoulders, two lungs: ellipses, blurred and shrunk."""
    fine = 8 * CELLS
    share = (np.arange(fine) + 0.5) / fine
    y, x = share[:, None], share[None, :] - 0.5
    chest = np.full((fine, fine), 0.72)
    for side in (-1, 1):
        chest[((x - 0.21 * side) / 0.15) ** 2 + ((y - 0.47) / 0.33) ** 2 < 1] = 0.2
    chest[(y < 0.12) & (np.abs(x) > 0.22)] = 0.45
    blurred = ndimage.gaussian_filter(chest, 0.6 * 8)
    small = blurred.reshape(CELLS, 8, CELLS, 8).mean(axis=(1, 3))
    drawn: NDArray[np.float32] = normalised(small.reshape(1, -1).astype(np.float32))[0]
    return drawn
