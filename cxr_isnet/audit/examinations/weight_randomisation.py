"""Do the heatmaps change when the weights are drawn anew?"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from cxr_isnet.audit.examination import Ability, Examination
from cxr_isnet.audit.measures import Observation, Picture, chance, described, held_above
from cxr_isnet.audit.subject import Subject
from cxr_isnet.evaluation.arrays import FloatArray
from cxr_isnet.evaluation.metrics import WeightedMean

STAGES = (0.1, 0.5, 1.0)
"""Shares of the layers, from the output back, that are drawn anew."""

ALIKE = 0.5
"""Rank correlation from which maps of random weights count as the same picture."""

MOST_IMAGES = 40


def examine(subject: Subject) -> Observation:
    """Rank correlation of the predicted class's map before and after, signed and of absolute values."""
    if subject.model.heatmaps is None or subject.model.randomised is None:
        raise ValueError("random weights were asked of a model without heatmaps")
    rows = subject.images.spread(MOST_IMAGES, subject.seed)
    images, bootstrap = subject.images.images[rows], subject.bootstrap(rows)
    predicted = subject.probabilities[rows].argmax(1)
    first = subject.ask(subject.model.heatmaps, images, "heatmaps")[np.arange(len(rows)), predicted]
    measures, tiles = [], [("X-ray", subject.tile(images, 0)), ("weights as they are", _shown(first[0]))]
    for share in STAGES:
        what = "all layers" if share == 1 else f"the last {share:.0%} of the layers"
        answer = subject.model.randomised(share, subject.seed)
        maps = subject.ask(answer, images, f"random {what}")[np.arange(len(rows)), predicted]
        tiles.append((f"random: {what}", _shown(maps[0])))
        for kind, of in (("signed", np.asarray), ("absolute", np.abs)):
            metric = WeightedMean(rank_correlation(of(first), of(maps)))
            name = f"rank correlation of {kind} maps, {what} random"
            measures.append(
                held_above(name, metric, bootstrap, len(rows), threshold=ALIKE)
                if share == 1
                else described(name, metric, bootstrap, len(rows))
            )
    picture = Picture("Strength of the relevance of the predicted class, with weights drawn anew", tuple(tiles))
    return Observation(tuple(measures), chance(measures), pictures=(picture,))


def rank_correlation(first: FloatArray, second: FloatArray) -> FloatArray:
    """Spearman's rank correlation (N,) of maps (N, H, W) with maps (N, H, W); NaN where one is flat."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    size = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.asarray((centred[0] * centred[1]).sum(1) / np.where(size > 0, size, np.nan), dtype=np.float64)


def _shown(relevance: FloatArray) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    strength = np.abs(relevance)
    top = np.percentile(strength, 99.5)
    return np.clip(strength / (top if top > 0 else 1.0), 0, 1).astype(np.float32)


EXAMINATION = Examination(
    name="weight_randomisation",
    title="Heatmaps of random weights",
    question="Do the heatmaps tell of what the network has learned?",
    rule=(
        f"Heatmaps are not to be trusted, and what is built on them is not applicable, if maps of a network whose "
        f"weights are all drawn anew still have a mean rank correlation above {ALIKE} with the maps under audit."
    ),
    limits=(
        "Passing it does not make a heatmap right. Random networks answer to edges too, so a correlation of 0 is not "
        "expected. After Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018 (arXiv 1810.03292)."
    ),
    needs=(Ability.HEATMAPS, Ability.RANDOMISED),
    examine=examine,
    checks_heatmaps=True,
)
