"""Two files with the same X-ray: copies, crops, mirrored or turned ones, with a caption, of another exposure.

A bag of visual words finds a few candidates for every image, matched local features align two images, and the
correlation of fine detail, block by block, decides, so that a caption does not count. Only the comparison of bags grows
with the square of the number of images, at about a microsecond a pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from cxr_isnet.checks.local_features import LocalFeatures

Floats = NDArray[np.floating[Any]]
Box = tuple[float, float, float, float]

SAME_IMAGE = 0.9
"""Correlation of detail from which two images count as the same.

Of 200 real X-rays cropped, turned, mirrored or captioned, each re-exposed and compressed as JPEG, one in fifty is below
0.91. Among 2,986 real X-rays, other exposures of the same person reach 0.898.
"""

CANDIDATES = 6
"""Images compared with each image, and as many with its mirror image."""

_WORDS = 2048
_BLOCK = 512
_SIMILAR = 0.8
_MATCHES = 20
_INLIERS = 14
_TOLERANCE = 3 / 256
_SIZES = (0.3, 3.0)
_STRETCH = 2.5
_BLOCKS = 8
_COMPARABLE = 12
_SEEN = 0.8
_FLAT = 0.1
_FINE, _COARSE = 1.0, 2.0


@dataclass(frozen=True)
class SameImage:
    """Two images that show the same.

    Attributes:
        part: index of the image that shows less, or as much.
        whole: index of the other.
        correlation: of their fine detail, in the middle of the blocks.
        mirrored: one is the mirror image of the other.
        degrees: by which it is turned against the other, from 0 to 180.
        window: left, top, width and height of the part in the whole, as shares of its sides.
    """

    part: int
    whole: int
    correlation: float
    mirrored: bool
    degrees: float
    window: Box


def find_same_images(features: Sequence[LocalFeatures], thumbnails: Sequence[NDArray[np.uint8]]) -> list[SameImage]:
    """Pairs of images that show the same.

    One may be a crop of the other (half of each side or more), turned, mirrored, written upon, of another resolution,
    aspect ratio, exposure and compression; not a negative.

    Args:
        features: of n images.
        thumbnails: n times (side, side), squeezed into the square.

    Returns:
        A record per pair, best first.
    """
    best: dict[tuple[int, int], SameImage] = {}
    pairs = list(_candidates(features))
    for first, second, mirrored in tqdm(pairs, desc="compare images", unit="pair", disable=None):
        found = _compare(first, second, mirrored, features, thumbnails)
        pair = (min(first, second), max(first, second))
        if found is not None and (pair not in best or found.correlation > best[pair].correlation):
            best[pair] = found
    return sorted(best.values(), key=lambda one: -one.correlation)


def _candidates(features: Sequence[LocalFeatures]) -> Iterator[tuple[int, int, bool]]:
    """Pairs, first below second, and whether the mirror image of the first is meant; each once."""
    usable = np.array([len(one) >= _MATCHES for one in features], dtype=bool)
    if usable.sum() < 2:
        return
    own, mirror = _bags(features, np.flatnonzero(usable))
    kept = min(CANDIDATES, len(features) - 1)
    seen: set[tuple[int, int, bool]] = set()
    for start in range(0, len(features), _BLOCK):
        for mirrored, queries in ((False, own), (True, mirror)):
            block = (own @ queries[start : start + _BLOCK].toarray().T).T
            places = np.arange(len(block))
            block[places, start + places] = -1
            for place, nearest in enumerate(np.argpartition(-block, kept - 1, axis=1)[:, :kept]):
                seen |= {
                    (min(start + place, int(other)), max(start + place, int(other)), mirrored)
                    for other in nearest
                    if block[place, other] > 0
                }
    yield from sorted(seen)


def _bags(features: Sequence[LocalFeatures], usable: NDArray[np.intp]) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Bags of visual words (n, words) of norm 1, of the images and of their mirror images.

    The words are descriptors drawn at random; the rarer a word, the more it counts.
    """
    generator = np.random.default_rng(0)
    sources = generator.choice(usable, size=_WORDS)
    words = np.stack([features[i].vectors()[int(generator.integers(len(features[i])))] for i in sources])
    counted = [
        sparse.csr_array(np.stack([_counts(one.mirrored() if turned else one, words) for one in part]))
        for turned in (False, True)
        for part in _parts(features)
    ]
    half = len(counted) // 2
    own, mirror = (sparse.csr_array(sparse.vstack(parts)) for parts in (counted[:half], counted[half:]))
    rarity = np.log(1 + len(features) / np.maximum(1, own.astype(bool).sum(axis=0)))
    return _weighted(own, rarity), _weighted(mirror, rarity)


def _parts(features: Sequence[LocalFeatures]) -> Iterator[Sequence[LocalFeatures]]:
    for start in range(0, len(features), _BLOCK):
        yield features[start : start + _BLOCK]


def _counts(one: LocalFeatures, words: NDArray[np.float32]) -> NDArray[np.float32]:
    if not len(one):
        return np.zeros(len(words), dtype=np.float32)
    nearest = (one.vectors() @ words.T).argmax(axis=1)
    return np.bincount(nearest, minlength=len(words)).astype(np.float32)


def _weighted(bags: sparse.csr_array, rarity: NDArray[np.floating[Any]]) -> sparse.csr_array:
    weighted = sparse.csr_array(bags.sqrt() @ sparse.diags_array(rarity.astype(np.float32)))
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array((1 / np.maximum(norms, 1e-6)).astype(np.float32)) @ weighted)


def _compare(
    first: int,
    second: int,
    mirrored: bool,
    features: Sequence[LocalFeatures],
    thumbnails: Sequence[NDArray[np.uint8]],
) -> SameImage | None:
    matrix = _aligned(features[first].mirrored() if mirrored else features[first], features[second])
    if matrix is None:
        return None
    pictures = [thumbnails[first][:, ::-1] if mirrored else thumbnails[first], thumbnails[second]]
    part, whole = 0, 1
    if np.linalg.det(matrix[:, :2]) > 1:  # the second shows less than the first
        part, whole, matrix = 1, 0, np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)
    correlation = detail_correlation(pictures[part], pictures[whole], matrix)
    if correlation < SAME_IMAGE:
        return None
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]) @ matrix.T
    if mirrored and whole == 0:
        corners[:, 0] = 1 - corners[:, 0]
    (left, top), (right, bottom) = corners.min(axis=0).clip(0, 1), corners.max(axis=0).clip(0, 1)
    places = (first, second)
    return SameImage(
        places[part],
        places[whole],
        correlation,
        mirrored,
        abs(math.degrees(math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))),
        (float(left), float(top), float(right - left), float(bottom - top)),
    )


def _aligned(first: LocalFeatures, second: LocalFeatures) -> NDArray[np.float64] | None:
    """Affine map (2, 3) from points of the first to points of the second, by matched features; None without one."""
    if min(len(first), len(second)) < _MATCHES:
        return None
    likeness = first.vectors() @ second.vectors().T
    forth, back = likeness.argmax(axis=1), likeness.argmax(axis=0)
    mutual = np.flatnonzero(back[forth] == np.arange(len(forth)))
    matched = mutual[likeness[mutual, forth[mutual]] > _SIMILAR]
    if len(matched) < _MATCHES:
        return None
    matrix, kept = cv2.estimateAffine2D(
        first.points[matched],
        second.points[forth[matched]],
        method=cv2.RANSAC,
        ransacReprojThreshold=_TOLERANCE,
        maxIters=500,
        confidence=0.99,
    )
    if matrix is None or int(kept.sum()) < _INLIERS:
        return None
    longest, shortest = np.linalg.svd(matrix[:, :2], compute_uv=False)
    turned_over = np.linalg.det(matrix[:, :2]) < 0  # mirror images are compared as such
    plausible = _SIZES[0] < shortest <= longest < _SIZES[1] and longest < _STRETCH * shortest and not turned_over
    return np.asarray(matrix, dtype=np.float64) if plausible else None


def detail_correlation(part: NDArray[Any], whole: NDArray[Any], matrix: Floats) -> float:
    """Correlation of the fine detail of an image and of a window of another: the median over blocks of the first.

    Coarse shape is filtered out first: all chests have it in common. A caption disturbs few blocks.

    Args:
        part: (side, side), any range.
        whole: (side, side), any range.
        matrix: (2, 3) affine map from points of the part to points of the whole, as shares of the sides.

    Returns:
        -1 to 1; 0 when too little of the part lies inside the whole.
    """
    side = len(part)
    pixels = matrix.copy()
    pixels[:, 2] = side * matrix[:, 2] + 0.5 * (matrix[:, :2].sum(axis=1) - 1)
    shown, covered = (
        cv2.warpAffine(
            np.ascontiguousarray(image, dtype=np.float32),
            pixels,
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        for image in (whole, np.ones_like(whole))
    )
    inside = cv2.erode((covered > 0.999).astype(np.uint8), np.ones((9, 9), dtype=np.uint8), borderValue=1) > 0
    ours, theirs = _detail(np.ascontiguousarray(part, dtype=np.float32)), _detail(np.asarray(shown, dtype=np.float32))
    one, other, seen = (_blocks(array) for array in (ours, theirs, inside))
    one, other = (np.where(seen, block, 0.0) for block in (one, other))
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    one, other = (np.where(seen, block - block.sum(axis=1, keepdims=True) / count, 0.0) for block in (one, other))
    norms = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    usable = (seen.mean(axis=1) > _SEEN) & (norms > _FLAT * seen.shape[1])
    if usable.sum() < _COMPARABLE:
        return 0.0
    return float(np.median((one * other).sum(axis=1)[usable] / norms[usable]))


def _detail(image: NDArray[np.float32]) -> NDArray[np.float32]:
    fine, coarse = (cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (_FINE, _COARSE))
    return np.asarray(fine - coarse, dtype=np.float32)


def _blocks(image: NDArray[Any]) -> NDArray[Any]:
    """Blocks of an image as rows (_BLOCKS², pixels)."""
    size = len(image) // _BLOCKS
    return image.reshape(_BLOCKS, size, _BLOCKS, size).swapaxes(1, 2).reshape(_BLOCKS**2, size**2)
