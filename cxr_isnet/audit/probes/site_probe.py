"""Do the features know the hospital, from the background, and does the output follow?"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_isnet.audit.alterations import background_only, lungs_only
from cxr_isnet.audit.audit_context import AuditContext
from cxr_isnet.audit.audit_set import AuditSet
from cxr_isnet.audit.probe import Capability, Probe
from cxr_isnet.audit.statistics import MARGIN, MeanOfGroups, ProbeResult, Statistic, chance, described, held_above
from cxr_isnet.evaluation import FloatArray, IntArray

FOLDS = 5

LOPSIDED = 0.2
"""Difference of a class's share between hospitals from which the hospital gives the class away."""


class StratifiedDifference:
    """Mean over strata of the difference of means between two groups; NaN where a weighting empties one."""

    def __init__(self, values: FloatArray, first: IntArray, strata: IntArray) -> None:
        """Values (N,); first (N,) 1 in the first group and 0 in the second; strata (N,), each with both groups."""
        self._first = MeanOfGroups(values[first == 1], strata[first == 1])
        self._second = MeanOfGroups(values[first == 0], strata[first == 0])
        self._rows = first == 1

    def __call__(self, weights: FloatArray) -> FloatArray:
        return self._first(weights[:, self._rows]) - self._second(weights[:, ~self._rows])


def run(context: AuditContext) -> ProbeResult:
    """Balanced accuracy of the hospital from features of three kinds of images; the output's shift."""
    data = context.images
    counts = [len(np.unique(data.patients[data.sites == site])) for site in range(len(data.site_names))]
    if len(counts) < 2 or min(counts) < FOLDS:
        return ProbeResult(reason=f"it needs two or more hospitals of {FOLDS} or more patients each")
    if context.model.features is None:
        raise ValueError("the site probe was given a model without features")
    background = background_only(data.images, data.masks, context.grey)
    kinds = {
        "whole images": data.images,
        "lungs only": lungs_only(data.images, data.masks, context.grey),
        "background only": background,
    }
    probes = []
    for name, images in kinds.items():
        features = context.ask(context.model.features, images, f"features, {name}")
        right = (predicted_sites(features, data, context.seed) == data.sites).astype(np.float64)
        probes.append(
            held_above(
                f"balanced accuracy of the hospital from features, {name}",
                MeanOfGroups(right, data.sites),
                context.bootstrap(),
                len(data),
                threshold=1 / len(counts),
            )
        )
    outputs = context.ask(context.model.probabilities, background, "background only")
    shifts = _shifts(context, outputs)
    followed = chance(shifts)
    statistics = (*probes, *shifts)
    if not shifts:
        return ProbeResult(statistics, reason="no class has images of two hospitals: class and hospital are one here")
    if followed is None or probes[-1].p_value is None:
        return ProbeResult(
            statistics, reason="the hospitals have the classes in like shares: to know the hospital is of no use here"
        )
    return ProbeResult(statistics, max(followed, probes[-1].p_value))


def predicted_sites(features: FloatArray, data: AuditSet, seed: int) -> IntArray:
    """The hospital (N,) of every image by logistic regression on features (N, F) of other patients."""
    found = np.full(len(data), -1, dtype=np.int64)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for known, asked in folds.split(features, data.sites, data.patients):
        probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
        found[asked] = probe.fit(features[known], data.sites[known]).predict(features[asked])
    return found


def _shifts(context: AuditContext, outputs: FloatArray) -> list[Statistic]:
    """How far the output of background-only images differs between a hospital and the others, classes being equal;
    held against the margin where the hospital has clearly more, or less, of the class."""
    data = context.images
    statistics = []
    for site in range(len(data.site_names) if len(data.site_names) > 2 else 1):
        here = (data.sites == site).astype(np.int64)
        both = [y for y in np.unique(data.labels) if len(np.unique(here[data.labels == y])) == 2]
        rows = np.flatnonzero(np.isin(data.labels, both))
        if not len(rows):
            continue
        bootstrap, told = context.bootstrap(rows), f"background only, {data.site_names[site]} against other hospitals"
        for index in range(len(data.classes) if len(data.classes) > 2 else 1):
            is_class = data.labels == index
            surplus = float(is_class[here == 1].mean() - is_class[here == 0].mean())
            sign = -1.0 if surplus < 0 else 1.0
            metric = StratifiedDifference(sign * outputs[rows, index], here[rows], data.labels[rows])
            name = f"probability of '{data.classes[index]}', {told}: {'rise' if sign > 0 else 'fall'}"
            statistics.append(
                held_above(name, metric, bootstrap, len(rows), threshold=MARGIN)
                if abs(surplus) >= LOPSIDED
                else described(name, metric, bootstrap, len(rows))
            )
    return statistics


PROBE = Probe(
    name="site_probe",
    title="The hospital in the features",
    question="Can the hospital be read from the features, without the lungs, and does the output follow it?",
    rule=(
        "A sign, if both hold: features of images without lungs tell the hospital above chance, and the output of "
        f"these images rises by more than {MARGIN} for a class in a hospital that has at least {LOPSIDED} more of it "
        "than the others (or falls with less), classes being equal. That features know the hospital is by itself no "
        "shortcut: most networks' do."
    ),
    limits=(
        "Where hospitals have the classes in like shares there is no verdict. Logistic regression, five folds by "
        "patient: what it does not find may still be there. Lungs look different from hospital to hospital too, as "
        "noise and sharpness do. An output without lungs may follow the exposure by luck, in the one direction or the "
        "other."
    ),
    needs=(Capability.FEATURES,),
    run=run,
)
