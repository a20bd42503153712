"""Crops of other images: a search over windows, an alignment, a correlation that decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cxr_isnet.checks.similarity import SAME_IMAGE, detail_correlation
from cxr_isnet.checks.windows import downsample, downsample_windows, window_boxes

Floats = NDArray[np.floating[Any]]
Box = tuple[float, float, float, float]

_CANDIDATES = 20
_COARSE_FLOOR = 0.85
_ALIGNED_FLOOR = 0.96
_CELLS = 32
_ROUNDS = 8
_BATCH = 256
_LARGEST_MOVE = 0.05
_DAMPING = 1e-3


@dataclass(frozen=True)
class Crop:
    """An image that is found in another.

    Attributes:
        part: index of the image that is the crop.
        whole: index of the image that it was cut from.
        window: left, top, width and height of the part in the whole, as shares of its sides.
        correlation: of their fine detail.
    """

    part: int
    whole: int
    window: Box
    correlation: float


def find_crops(images: NDArray[np.float32]) -> list[Crop]:
    """Pairs of which one is a crop of the other, at least half as wide and half as high.

    The two may differ in resolution, aspect ratio, exposure, compression and small burned-in text; not in rotation.
    Time grows with the square of the number of images.

    Args:
        images: (n, side, side) in [0, 1], the side even.

    Returns:
        A crop per pair, best first. The smaller of the two is the part.
    """
    count, side, _ = images.shape
    candidates = list(_candidates(images)) if count > 1 else []
    halved = images.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    best: dict[tuple[int, int], Crop] = {}
    for start in tqdm(range(0, len(candidates), _BATCH), desc="align crops", unit="batch", disable=None):
        for crop in _verified(images, halved, candidates[start : start + _BATCH]):
            pair = (min(crop.part, crop.whole), max(crop.part, crop.whole))
            if pair not in best or crop.correlation > best[pair].correlation:
                best[pair] = crop
    return sorted(best.values(), key=lambda crop: -crop.correlation)


def _candidates(images: NDArray[np.float32]) -> Iterator[tuple[int, int, int]]:
    """Part, whole and number of the window: for every part the most similar wholes."""
    parts = downsample(images)
    count = len(images)
    score = np.zeros((count, count), dtype=np.float32)
    window = np.zeros((count, count), dtype=np.int32)
    for whole in tqdm(range(count), desc="search crops", unit="image", disable=None):
        match = parts @ downsample_windows(images[whole]).T
        window[:, whole] = match.argmax(axis=1)
        score[:, whole] = match.max(axis=1)
    np.fill_diagonal(score, 0.0)
    kept = min(_CANDIDATES, count - 1)
    for part in range(count):
        for whole in np.argpartition(-score[part], kept - 1)[:kept]:
            if score[part, whole] >= _COARSE_FLOOR:
                yield part, int(whole), int(window[part, whole])


def _verified(
    images: NDArray[np.float32], halved: NDArray[np.float32], candidates: Sequence[tuple[int, int, int]]
) -> Iterator[Crop]:
    """Align at half the resolution; what still fits, at full resolution; what still fits, compare in detail."""
    parts, wholes, numbers = (np.array(column) for column in zip(*candidates, strict=True))
    boxes, match = _align(halved[parts], halved[wholes], window_boxes()[numbers])
    fit = match >= _ALIGNED_FLOOR
    parts, wholes = parts[fit], wholes[fit]
    boxes, _ = _align(images[parts], images[wholes], boxes[fit])
    for part, whole, box in zip(parts, wholes, boxes, strict=True):
        left, top, width, height = (float(share) for share in box)
        found = detail_correlation(images[part], images[whole], (left, top, width, height))
        if found >= SAME_IMAGE:
            yield Crop(int(part), int(whole), (left, top, width, height), found)


def _align(parts: Floats, wholes: Floats, boxes: Floats) -> tuple[Floats, Floats]:
    """Align the windows: Gauss-Newton on position, size, contrast and brightness.

    Args:
        parts: (b, side, side).
        wholes: (b, side, side).
        boxes: (b, 4), initial.

    Returns:
        (b, 4) boxes, and (b,) correlations of the parts and the windows.
    """
    side = parts.shape[1]
    centre = ((np.arange(_CELLS) + 0.5) / _CELLS).astype(np.float32)
    still = np.tile(np.array([0.0, 1.0], dtype=np.float32), (len(parts), 1))
    goal = _standard(_sample(parts, still, still))
    down, right = (slope * side for slope in np.gradient(wholes, axis=(1, 2)))
    boxes = boxes.astype(np.float32)
    damping = _DAMPING * _CELLS**2 * np.diag([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]) + np.eye(6) * 1e-6
    for _ in range(_ROUNDS):
        across, along = boxes[:, (0, 2)], boxes[:, (1, 3)]
        seen = _sample(wholes, along, across)
        spread = np.maximum(seen.std(axis=(1, 2), keepdims=True), 1e-6)
        to_right, to_bottom = _sample(right, along, across) / spread, _sample(down, along, across) / spread
        shown = _standard(seen)
        slopes = np.stack(
            [to_right, to_bottom, to_right * centre, to_bottom * centre[:, None], np.ones_like(shown), shown], axis=1
        ).reshape(len(parts), 6, _CELLS**2)
        error = (goal - shown).reshape(len(parts), _CELLS**2, 1)
        move = np.linalg.solve(slopes @ slopes.transpose(0, 2, 1) + damping, slopes @ error)[:, :4, 0]
        boxes += np.clip(move, -_LARGEST_MOVE, _LARGEST_MOVE)
        boxes[:, 2:] = np.clip(boxes[:, 2:], 0.3, 1.05)
        boxes[:, :2] = np.clip(boxes[:, :2], -0.02, 1.02 - boxes[:, 2:])
    shown = _standard(_sample(wholes, boxes[:, (1, 3)], boxes[:, (0, 2)]))
    return boxes, (goal * shown).mean(axis=(1, 2))


def _sample(images: Floats, rows: Floats, columns: Floats) -> Floats:
    """Linear interpolation (b, _CELLS, _CELLS); `rows` and `columns` hold (b, 2) start and length."""
    side = images.shape[1]
    return np.asarray(_weights(rows, side) @ images @ _weights(columns, side).transpose(0, 2, 1))


def _weights(stretch: Floats, side: int) -> NDArray[np.float32]:
    cells = ((np.arange(_CELLS) + 0.5) / _CELLS).astype(np.float32)
    place = np.clip((stretch[:, :1] + stretch[:, 1:] * cells) * side - 0.5, 0.0, side - 1.001)
    return np.asarray(
        np.clip(1.0 - np.abs(place[:, :, None] - np.arange(side, dtype=np.float32)), 0.0, None), dtype=np.float32
    )


def _standard(images: Floats) -> Floats:
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1e-6))
