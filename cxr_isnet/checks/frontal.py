"""Does an image look like an upright frontal chest? Two scores: similarity to a template, outliers among the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cxr_isnet.checks.windows import downsample, downsample_windows
from cxr_isnet.imaging import chest_template

MIN_TEMPLATE_SCORE = 0.25
"""Correlation with the chest template below which an image is suspect."""

MAX_OUTLIER_SCORE = 0.65
"""Outlier score above which an image is suspect."""

MIN_IMAGES = 40
"""Number of images below which no outlier score can be computed."""

_COMPONENTS = 10
_NEAREST = 0.75
_ROUNDS = 3


def chest_template_score(images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Template matching: highest correlation of a window of each image with a schematic chest.

    The template is two dark fields beside a bright middle. Needs no other image. Insensitive to much: a leg or an
    opaque lung may pass or fail.

    Args:
        images: n times (side, side), any range.

    Returns:
        (n,) correlations, -1 to 1.
    """
    chest = chest_template()
    bar = tqdm(images, desc="look for chests", unit="image", disable=None)
    return np.array([(downsample_windows(image) @ chest).max() for image in bar], dtype=np.float32)


def frontal_outlier_score(images: Sequence[NDArray[Any]], sites: Sequence[str]) -> NDArray[np.float32]:
    """Outlier score: how badly principal components of the other images, or of those of its site, reconstruct an image.

    Most images of the tables, and of a site, are assumed to be frontal chests.

    Args:
        images: n times (side, side), any range.
        sites: n names. A site that exposes or crops in its own way is compared with itself.

    Returns:
        (n,) norms of the residual, 0 to about 1; 0 for all when there are fewer than `MIN_IMAGES`.
    """
    vectors = downsample(images)
    scores = _outlier_scores(vectors)
    names = np.array(sites)
    for site in np.unique(names):
        own = names == site
        if MIN_IMAGES <= own.sum() < len(names):
            scores[own] = np.minimum(scores[own], _outlier_scores(vectors[own]))
    return scores


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
