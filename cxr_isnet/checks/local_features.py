"""Local features of an image (SIFT): what stays alike when it is cropped, turned, mirrored, exposed or written upon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FEATURE_SIDE = 192
"""Rows and columns of the image, squeezed into a square, in which features are looked for."""

MAX_FEATURES = 200
_CONTRAST = 0.01
"""Of OpenCV's default, a quarter: lungs have little contrast."""

_EDGE = 20
_SCALE = 512
_CELLS, _DIRECTIONS = 4, 8

cv2.setNumThreads(1)  # images are read by threads of their own


@dataclass(frozen=True)
class LocalFeatures:
    """Local features of an image.

    Attributes:
        points: (N, 2) float32, column and row as shares of the sides.
        descriptors: (N, 128) uint8, `_SCALE` times the root of SIFT's histograms of sum 1.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    @classmethod
    def none(cls) -> LocalFeatures:
        """Those of a flat image."""
        return cls(np.zeros((0, 2), dtype=np.float32), np.zeros((0, 128), dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.points)

    def vectors(self) -> NDArray[np.float32]:
        """Descriptors (N, 128) of norm 1, whose inner products compare them."""
        return np.asarray(self.descriptors.astype(np.float32) / np.float32(_SCALE), dtype=np.float32)

    def mirrored(self) -> LocalFeatures:
        """Those of the mirrored image, without looking at it: points and histograms change places."""
        points = self.points.copy()
        points[:, 0] = 1 - points[:, 0]
        return LocalFeatures(points, self.descriptors[:, _MIRRORED])


def _mirrored_bins() -> NDArray[np.int64]:
    """Of each bin of a mirrored descriptor, its place in the original.

    A descriptor lies in the frame of its own direction, so mirroring flips it across that axis: rows of cells in
    reverse order, and every direction to its negative.
    """
    bins = np.arange(_CELLS * _CELLS * _DIRECTIONS).reshape(_CELLS, _CELLS, _DIRECTIONS)
    return bins[::-1, :, -np.arange(_DIRECTIONS)].ravel()


_MIRRORED = _mirrored_bins()


def local_features(image: NDArray[np.floating[Any]]) -> LocalFeatures:
    """The strongest features of an image.

    Args:
        image: (FEATURE_SIDE, FEATURE_SIDE) in [0, 1].

    Source: D. Lowe, Distinctive image features from scale-invariant keypoints, IJCV 60(2), 2004; square roots of the
        histograms: R. Arandjelovic and A. Zisserman, CVPR 2012. OpenCV's SIFT.
    """
    finder = cv2.SIFT.create(nfeatures=MAX_FEATURES, contrastThreshold=_CONTRAST, edgeThreshold=_EDGE)
    found, histograms = finder.detectAndCompute(np.rint(255 * image).astype(np.uint8), None)
    if histograms is None:
        return LocalFeatures.none()
    points = np.array([point.pt for point in found], dtype=np.float32)[:MAX_FEATURES] + np.float32(0.5)
    roots = np.sqrt(histograms[:MAX_FEATURES] / np.maximum(histograms[:MAX_FEATURES].sum(axis=1, keepdims=True), 1e-9))
    return LocalFeatures(points / np.float32(len(image)), np.rint(np.minimum(_SCALE * roots, 255)).astype(np.uint8))
