"""Does erasing the most relevant pixels outside the lungs matter more than inside?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_isnet.audit.probe import AuditContext, Capability, Probe
from cxr_isnet.audit.statistics import MARGIN, Panel, ProbeResult, Statistic, bonferroni, describe, one_sided_test
from cxr_isnet.data import most_relevant
from cxr_isnet.evaluation import FloatArray, IntArray, PatientBootstrap, WeightedMean

SHARES = (0.01, 0.03, 0.06, 0.1)
"""Of the image's area, erased or inserted in turn; less than the lungs have."""

CELLS = 24
"""Relevance is averaged over cells of a 24th of the side before it is ranked: single pixels are noise."""

MAX_IMAGES = 120


def run(context: AuditContext) -> ProbeResult:
    """Change of the predicted class's probability over deletion and insertion, inside against outside the lungs."""
    if context.model.heatmaps is None:
        raise ValueError("pixel erasure needs a model with heatmaps")
    rows = context.data.stratified_rows(MAX_IMAGES, context.seed)
    images, masks = context.data.images[rows], context.data.masks[rows]
    predicted = context.probabilities[rows].argmax(1)
    maps = context.in_batches(context.model.heatmaps, images, "heatmaps")[np.arange(len(rows)), predicted]
    relevance = _pooled(torch.from_numpy(maps).float()[:, None])
    mean = context.mean_image.expand_as(images)
    full = context.probabilities[rows][np.arange(len(rows)), predicted]
    empty = context.in_batches(context.model.probabilities, mean[:1], "mean image")[0, predicted]
    effects: dict[str, list[FloatArray]] = {}
    tiles = [("as it is", context.tile(images, 0))]
    for place, allowed in (("inside", masks), ("outside", 1 - masks)):
        for share in SHARES:
            chosen = most_relevant(relevance, allowed, share)
            deleted, inserted = _mixed(mean, images, chosen), _mixed(images, mean, chosen)
            what = f"{share:.0%} {place}"
            effects.setdefault(f"deletion {place}", []).append(
                full - _probability(context, deleted, predicted, f"delete {what}")
            )
            effects.setdefault(f"insertion {place}", []).append(
                _probability(context, inserted, predicted, f"insert {what}") - empty
            )
            if share == SHARES[-1]:
                tiles.append((f"erased {place}", context.tile(deleted, 0)))
    statistics = _statistics(context.bootstrap(rows), effects, len(rows))
    panel = Panel("The most relevant pixels, erased inside and outside the lungs", tuple(tiles))
    return ProbeResult(tuple(statistics), bonferroni(statistics), panels=(panel,))


def _statistics(bootstrap: PatientBootstrap, effects: dict[str, list[FloatArray]], count: int) -> list[Statistic]:
    statistics = []
    for kind, effect in (("deletion", "fall"), ("insertion", "rise")):
        inside, outside = (np.stack(effects[f"{kind} {place}"]) for place in ("inside", "outside"))
        statistics.append(
            one_sided_test(
                f"{kind}: mean {effect} of the probability, outside minus inside the lungs",
                WeightedMean((outside - inside).mean(0)),
                bootstrap,
                count,
                threshold=MARGIN,
            )
        )
        for place, curve in (("inside", inside), ("outside", outside)):
            statistics += [
                describe(
                    f"{kind} of {share:.0%} of the image, {place}: {effect}", WeightedMean(values), bootstrap, count
                )
                for share, values in zip(SHARES, curve, strict=True)
            ]
    return statistics


def _probability(context: AuditContext, images: Tensor, predicted: IntArray, description: str) -> FloatArray:
    found = context.in_batches(context.model.probabilities, images, description)
    return np.asarray(found[np.arange(len(images)), predicted], dtype=np.float64)


def _mixed(put: Tensor, into: Tensor, where: Tensor) -> Tensor:
    return put * where + into * (1 - where)


def _pooled(maps: Tensor) -> Tensor:
    rows, columns = maps.shape[-2:]
    cells = F.adaptive_avg_pool2d(maps, (min(CELLS, rows), min(CELLS, columns)))
    return F.interpolate(cells, size=(rows, columns), mode="nearest")


PROBE = Probe(
    name="pixel_erasure",
    title="Erasing relevant pixels inside and outside the lungs",
    question="Does the prediction depend on relevant pixels outside the lungs more than on those inside?",
    rule=(
        "A shortcut, if erasing the most relevant pixels outside the lungs lowers the predicted class's probability by "
        f"more than {MARGIN} beyond erasing as much inside, or inserting them raises it so (mean over "
        f"{', '.join(f'{share:.0%}' for share in SHARES)} of the image's area)."
    ),
    limits=(
        "Erased pixels become those of the mean image, which the model has not seen in training. More pixels lie "
        "outside than inside, so there are more to choose from. Valid only if the heatmaps pass the check by random "
        "weights. "
        "Curves after Petsiuk et al., RISE, BMVC 2018 (arXiv 1806.07421)."
    ),
    needs=(Capability.HEATMAPS,),
    run=run,
)
