"""Does the relevance lie on the finding? Maps against boxes and zone scores that radiologists gave, within the lungs.

The share of relevance in the lungs rewards any map that covers them. What a hospital annotated itself, a box around a
finding or a score for each zone of the lungs, tells whether a map is right inside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from cxr_isnet.evaluation import FloatArray
from cxr_isnet.inference.relevance_share import relevance_in_lung

Box = tuple[float, float, float, float]
Predict = Callable[[torch.Tensor], torch.Tensor]
"""From images (N, 1, H, W) to probabilities (N, C)."""

ZONES = ("A", "B", "C", "D", "E", "F")
"""Zones of the Brixia score: the right lung from top to bottom, which is left in the image, then the left lung.

Source: A. Borghesi and R. Maroldi, La radiologia medica 125:509, 2020. Their borders are the aortic arch and the right
inferior pulmonary vein; here, thirds of each lung's height.
"""

STEPS = 10
"""Parts of an image that are hidden one after the other."""

_BLOCKS = 16


def box_regions(boxes: Sequence[Sequence[Box]], size: int) -> NDArray[np.bool_]:
    """Regions of boxes.

    Args:
        boxes: for each of N images, left, top, width and height of its boxes, as shares of the image's sides.
        size: rows and columns of the maps.

    Returns:
        (N, 1, size, size); empty where an image has no box.
    """
    regions = np.zeros((len(boxes), 1, size, size), dtype=bool)
    centre = (np.arange(size) + 0.5) / size
    for region, of_image in zip(regions, boxes, strict=True):
        for left, top, width, height in of_image:
            rows, columns = (centre >= top) & (centre < top + height), (centre >= left) & (centre < left + width)
            region[0] |= rows[:, None] & columns[None, :]
    return regions


def pointing_game(maps: NDArray[Any], regions: NDArray[np.bool_]) -> FloatArray:
    """Whether the most relevant pixel lies on the finding.

    Args:
        maps: (N, H, W) relevance of the class of the finding; what speaks against it does not count.
        regions: (N, 1, H, W) where the finding is.

    Returns:
        (N,) 1 or 0; NaN without a finding or with nothing that speaks for the class.

    Source: J. Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016; without its tolerance.
    """
    flat = np.asarray(maps, dtype=np.float64).reshape(len(maps), -1)
    inside = regions.reshape(len(maps), -1)
    hits = inside[np.arange(len(maps)), flat.argmax(axis=1)].astype(np.float64)
    return np.where(inside.any(axis=1) & np.isfinite(flat).all(axis=1) & (flat.max(axis=1) > 0), hits, np.nan)


def relevance_on_findings(
    maps: NDArray[Any], regions: NDArray[np.bool_], lungs: NDArray[Any]
) -> tuple[FloatArray, FloatArray]:
    """Share of a map's relevance within the lungs that lies on the finding, and what it would have there by chance.

    Args:
        maps: (N, H, W) relevance of the class of the finding; what speaks against it does not count.
        regions: (N, 1, H, W) where the finding is.
        lungs: (N, 1, H, W) of 0 and 1.

    Returns:
        (N,) shares, and (N,) shares of a map that is the same everywhere in the lungs: the finding's part of their
        area. NaN where no part of the finding is in the lungs.
    """
    within = np.asarray(lungs, dtype=np.float64) > 0.5
    positive = np.clip(np.asarray(maps, dtype=np.float64), 0, None)[:, None] * within
    known = np.asarray((regions & within).any(axis=(1, 2, 3)), dtype=np.float64)
    shares, chance = (relevance_in_lung(found, regions.astype(np.float64), known) for found in (positive, within))
    return shares, chance


def zone_relevance(maps: NDArray[Any], lungs: NDArray[Any]) -> FloatArray:
    """Mean relevance of the six zones of the lungs, in the order of `ZONES`.

    Args:
        maps: (N, H, W) relevance of the class of the finding; what speaks against it does not count.
        lungs: (N, 1, H, W) of 0 and 1; the lungs are told apart by the middle of their mask.

    Returns:
        (N, 6); NaN for a zone without lung.
    """
    found: FloatArray = np.full((len(maps), len(ZONES)), np.nan)
    positive = np.clip(np.asarray(maps, dtype=np.float64), 0, None)
    for place, mask in enumerate(np.asarray(lungs)[:, 0] > 0.5):
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        right = columns < (columns.min() + columns.max() + 1) / 2
        for side, pixels in enumerate((right, ~right)):
            if not pixels.any():
                continue
            top, height = rows[pixels].min(), np.ptp(rows[pixels]) + 1
            third = np.minimum(3 * (rows - top) // height, 2)
            for zone in range(3):
                here = pixels & (third == zone)
                if here.any():
                    found[place, 3 * side + zone] = positive[place, rows[here], columns[here]].mean()
    return found


def zone_agreement(relevance: FloatArray, scores: NDArray[Any]) -> FloatArray:
    """Spearman's correlation of relevance and scores over the zones of each image.

    Lower zones score higher in most patients, so that one map for all has a correlation too: see
    `zone_agreement_with_others`.

    Args:
        relevance: (N, 6) as of `zone_relevance`.
        scores: (N, 6) that radiologists gave, in the same order.

    Returns:
        (N,) -1 to 1; NaN where all zones have one score or one relevance, or a zone is unknown.
    """
    found: FloatArray = np.full(len(relevance), np.nan)
    for place, (ours, theirs) in enumerate(zip(relevance, np.asarray(scores, dtype=np.float64), strict=True)):
        if np.isfinite([*ours, *theirs]).all() and np.ptp(ours) > 0 and np.ptp(theirs) > 0:
            found[place] = spearmanr(ours, theirs).statistic
    return found


def zone_agreement_with_others(relevance: FloatArray, scores: NDArray[Any], patients: NDArray[Any]) -> FloatArray:
    """Spearman's correlation of the relevance of each image with the scores of other patients: what chance gives.

    Args:
        relevance: (N, 6) as of `zone_relevance`.
        scores: (N, 6) that radiologists gave, in the same order.
        patients: (N,) number of the patient.

    Returns:
        (N,) means over the images of all other patients; NaN as in `zone_agreement`, and without other patients.
    """
    ours, theirs = (_standard_ranks(np.asarray(values, dtype=np.float64)) for values in (relevance, scores))
    correlations = ours @ theirs.T / len(ZONES)
    others = (patients[:, None] != patients[None, :]) & np.isfinite(theirs).all(axis=1)
    count = others.sum(axis=1)
    totals = np.where(others, np.nan_to_num(correlations), 0.0).sum(axis=1)
    defined = (count > 0) & np.isfinite(ours).all(axis=1)
    return np.asarray(np.where(defined, totals / np.maximum(count, 1), np.nan), dtype=np.float64)


def _standard_ranks(values: FloatArray) -> FloatArray:
    """Ranks of every row with mean 0 and standard deviation 1; NaN for a row that is unknown or all equal."""
    ranks = rankdata(values, axis=1, nan_policy="propagate")
    spread = ranks.std(axis=1, keepdims=True)
    return np.asarray((ranks - ranks.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, np.nan))


def occlusion_gain(
    predict: Predict, images: torch.Tensor, maps: NDArray[Any], classes: NDArray[Any], seed: int = 0
) -> FloatArray:
    """Whether what is relevant matters: hidden first, it changes the output more than as much of the image at random.

    Args:
        predict: of the classifier.
        images: (N, 1, H, W); hidden blocks take the image's median.
        maps: (N, H, W) relevance of the class.
        classes: (N,) index of the class that each map is of.
        seed: of the order at random.

    Returns:
        (N,) mean over steps of the probability of the class with blocks hidden at random, minus that with the most
        relevant blocks hidden first: above 0 for a map that tells what the classifier uses.

    Source: deletion, V. Petsiuk, A. Das, K. Saenko, RISE, BMVC 2018; against a random order as in W. Samek et al., IEEE
        TNNLS 28(11), 2017.
    """
    side = images.shape[-1] // _BLOCKS
    blocks = np.asarray(maps, dtype=np.float64)[:, : side * _BLOCKS, : side * _BLOCKS]
    strength = blocks.reshape(len(blocks), _BLOCKS, side, _BLOCKS, side).sum(axis=(2, 4)).reshape(len(blocks), -1)
    noise = np.random.default_rng(seed).random((2, *strength.shape))
    orders = (noise[0].argsort(axis=1), np.lexsort((noise[1], -strength), axis=-1))  # equals in any order
    means = [np.zeros(len(images)), np.zeros(len(images))]
    medians = images.flatten(1).median(1).values
    for step in range(1, STEPS):
        for mean, order in zip(means, orders, strict=True):
            hidden = images.clone()
            for place, chosen in enumerate(order[:, : step * _BLOCKS**2 // STEPS]):
                for block in chosen:
                    top, left = side * (int(block) // _BLOCKS), side * (int(block) % _BLOCKS)
                    hidden[place, :, top : top + side, left : left + side] = medians[place]
            found = predict(hidden).detach().cpu().double().numpy()
            mean += found[np.arange(len(images)), classes] / (STEPS - 1)
    return np.asarray(means[0] - means[1], dtype=np.float64)
