"""Is an image an outlier among the others of its tables, of which most are frontal chests?

Whether it looks like an upright frontal chest by itself, `cxr_isnet.imaging.frontal_score` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_OUTLIER_SCORE = 0.65
"""Outlier score above which an image is suspect."""

MIN_IMAGES = 40
"""Number of images below which no outlier score can be computed."""

_CELLS = 16
_FLAT = 1e-4
_COMPONENTS = 10
_NEAREST = 0.75
_ROUNDS = 3


def frontal_outlier_score(images: Sequence[NDArray[Any]], sites: Sequence[str]) -> NDArray[np.float32]:
    """Outlier score: how badly principal components of the other images, or of those of its site, reconstruct an image.

    Most images of the tables, and of a site, are assumed to be frontal chests.

    Args:
        images: n times (side, side), any range.
        sites: n names. A site that exposes or crops in its own way is compared with itself.

    Returns:
        (n,) norms of the residual, 0 to about 1; 0 for all when there are fewer than `MIN_IMAGES`.
    """
    vectors = _vectors(images)
    scores = _outlier_scores(vectors)
    names = np.array(sites)
    for site in np.unique(names):
        own = names == site
        if MIN_IMAGES <= own.sum() < len(names):
            scores[own] = np.minimum(scores[own], _outlier_scores(vectors[own]))
    return scores


def _vectors(images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Images n times (side, side) as vectors (n, 256) of mean 0 and norm 1, of 16 x 16 cells; 0 where flat."""
    if not len(images):
        return np.zeros((0, _CELLS * _CELLS), dtype=np.float32)
    size = len(images[0]) // _CELLS
    cells = [image.reshape(_CELLS, size, _CELLS, size).mean(axis=(1, 3), dtype=np.float32).ravel() for image in images]
    centred = np.stack(cells) - np.mean(cells, axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, norms, out=np.zeros_like(centred), where=norms > _FLAT), dtype=np.float32)


def _outlier_scores(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Residual norm of each half of the images after projection on principal components of the other half.

    In halves, so that no image reconstructs itself. First the components are those of the images nearest to the median
    image, so that a few outliers of one kind do not support each other; then of all that are no outliers.
    """
    scores = np.zeros(len(vectors), dtype=np.float32)
    if len(vectors) < MIN_IMAGES:
        return scores
    first = np.arange(len(vectors)) % 2 == 0
    nearness = vectors @ np.median(vectors, axis=0)
    examples = nearness >= np.quantile(nearness, 1 - _NEAREST)
    for _ in range(_ROUNDS):
        for half in (first, ~first):
            scores[half] = _residual_norm(vectors[half], vectors[~half & examples])
        examples = scores <= MAX_OUTLIER_SCORE
    return scores


def _residual_norm(vectors: NDArray[np.float32], examples: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = examples.mean(axis=0)
    _, _, components = np.linalg.svd(examples - mean, full_matrices=False)
    common = components[:_COMPONENTS]
    centred = vectors - mean
    return np.asarray(np.linalg.norm(centred - centred @ common.T @ common, axis=1), dtype=np.float32)
