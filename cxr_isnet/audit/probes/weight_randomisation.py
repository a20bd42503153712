"""Do the heatmaps change when the weights are re-initialised?"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from cxr_isnet.audit.probe import AuditContext, Capability, Probe
from cxr_isnet.audit.statistics import Panel, ProbeResult, bonferroni, describe, one_sided_test
from cxr_isnet.evaluation import FloatArray, WeightedMean

STAGES = (0.1, 0.5, 1.0)
"""Shares of the layers, from the output back, that are re-initialised."""

MAX_CORRELATION = 0.5
"""Rank correlation from which maps of random weights count as unchanged."""

MAX_IMAGES = 40


def run(context: AuditContext) -> ProbeResult:
    """Rank correlation of the predicted class's map before and after, signed and of absolute values."""
    if context.model.heatmaps is None or context.model.randomised is None:
        raise ValueError("weight randomisation needs a model with heatmaps")
    rows = context.data.stratified_rows(MAX_IMAGES, context.seed)
    images, bootstrap = context.data.images[rows], context.bootstrap(rows)
    predicted = context.probabilities[rows].argmax(1)
    first = context.in_batches(context.model.heatmaps, images, "heatmaps")[np.arange(len(rows)), predicted]
    statistics, tiles = [], [("X-ray", context.tile(images, 0)), ("weights as they are", _rescaled(first[0]))]
    for share in STAGES:
        layers = "all layers" if share == 1 else f"the last {share:.0%} of the layers"
        heatmaps = context.model.randomised(share, context.seed)
        maps = context.in_batches(heatmaps, images, f"random {layers}")[np.arange(len(rows)), predicted]
        tiles.append((f"random: {layers}", _rescaled(maps[0])))
        for kind, function in (("signed", np.asarray), ("absolute", np.abs)):
            metric = WeightedMean(rank_correlation(function(first), function(maps)))
            name = f"rank correlation of {kind} maps, {layers} random"
            statistics.append(
                one_sided_test(name, metric, bootstrap, len(rows), threshold=MAX_CORRELATION)
                if share == 1
                else describe(name, metric, bootstrap, len(rows))
            )
    panel = Panel("Absolute relevance of the predicted class, with re-initialised weights", tuple(tiles))
    return ProbeResult(tuple(statistics), bonferroni(statistics), panels=(panel,))


def rank_correlation(first: FloatArray, second: FloatArray) -> FloatArray:
    """Spearman's rank correlation (N,) of maps (N, H, W) with maps (N, H, W); NaN where one is flat."""
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    size = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.asarray((centred[0] * centred[1]).sum(1) / np.where(size > 0, size, np.nan), dtype=np.float64)


def _rescaled(relevance: FloatArray) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    strength = np.abs(relevance)
    top = np.percentile(strength, 99.5)
    return np.clip(strength / (top if top > 0 else 1.0), 0, 1).astype(np.float32)


PROBE = Probe(
    name="weight_randomisation",
    title="Heatmaps of random weights",
    question="Do the heatmaps depend on what the network has learned?",
    rule=(
        f"Heatmaps are not to be trusted, and what is built on them is not applicable, if maps of a network whose "
        f"weights are all re-initialised still have a mean rank correlation above {MAX_CORRELATION} with the maps "
        "under audit."
    ),
    limits=(
        "Passing it does not make a heatmap right. Random networks respond to edges too, so a correlation of 0 is not "
        "expected. After Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018 (arXiv 1810.03292)."
    ),
    needs=(Capability.HEATMAPS, Capability.RANDOMISED),
    run=run,
    checks_heatmaps=True,
)
