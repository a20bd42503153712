"""Do the features encode the hospital, from the background, and does the output follow?"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_isnet.audit.audit_set import AuditSet
from cxr_isnet.audit.probe import AuditContext, Capability, Probe
from cxr_isnet.audit.statistics import MARGIN, MacroMean, ProbeResult, Statistic, bonferroni, describe, one_sided_test
from cxr_isnet.data import background_only, lungs_only
from cxr_isnet.evaluation import FloatArray, IntArray

FOLDS = 5

MIN_SURPLUS = 0.2
"""Difference of a class's share between hospitals from which the hospital predicts the class."""


class StratifiedDifference:
    """Mean over strata of the difference of means between two groups; NaN where a weighting empties one."""

    def __init__(self, values: FloatArray, first: IntArray, strata: IntArray) -> None:
        """Values (N,); first (N,) 1 in the first group and 0 in the second; strata (N,), each with both groups."""
        self._first = MacroMean(values[first == 1], strata[first == 1])
        self._second = MacroMean(values[first == 0], strata[first == 0])
        self._rows = first == 1

    def __call__(self, weights: FloatArray) -> FloatArray:
        """Value (R,) for every row of weights (R, N)."""
        return self._first(weights[:, self._rows]) - self._second(weights[:, ~self._rows])


def run(context: AuditContext) -> ProbeResult:
    """Balanced accuracy of the hospital from features of three kinds of images; shifts of the output."""
    data = context.data
    counts = [len(np.unique(data.patients[data.sites == site])) for site in range(len(data.site_names))]
    if len(counts) < 2 or min(counts) < FOLDS:
        return ProbeResult(reason=f"it needs two or more hospitals of {FOLDS} or more patients each")
    if context.model.features is None:
        raise ValueError("the site probe needs a model with features")
    background = background_only(data.images, data.masks, context.mean_grey)
    kinds = {
        "whole images": data.images,
        "lungs only": lungs_only(data.images, data.masks, context.mean_grey),
        "background only": background,
    }
    probes = []
    for name, images in kinds.items():
        features = context.in_batches(context.model.features, images, f"features, {name}")
        right = (predicted_sites(features, data, context.seed) == data.sites).astype(np.float64)
        probes.append(
            one_sided_test(
                f"balanced accuracy of the hospital from features, {name}",
                MacroMean(right, data.sites),
                context.bootstrap(),
                len(data),
                threshold=1 / len(counts),
            )
        )
    outputs = context.in_batches(context.model.probabilities, background, "background only")
    shifts = _shifts(context, outputs)
    followed = bonferroni(shifts)
    statistics = (*probes, *shifts)
    if not shifts:
        return ProbeResult(statistics, reason="no class has images of two hospitals: class and hospital are one here")
    if followed is None or probes[-1].p_value is None:
        return ProbeResult(
            statistics,
            reason="the hospitals have the classes in similar shares: to know the hospital is of no use here",
        )
    return ProbeResult(statistics, max(followed, probes[-1].p_value))


def predicted_sites(features: FloatArray, data: AuditSet, seed: int) -> IntArray:
    """Hospital (N,) of every image, predicted by logistic regression on features (N, F) of other patients."""
    found = np.full(len(data), -1, dtype=np.int64)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, predicted in folds.split(features, data.sites, data.patients):
        probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
        found[predicted] = probe.fit(features[fitted], data.sites[fitted]).predict(features[predicted])
    return found


def _shifts(context: AuditContext, outputs: FloatArray) -> list[Statistic]:
    """Differences of the output of background-only images between a hospital and the others, stratified by class;
    tested against the margin where the hospital has clearly more, or less, of the class."""
    data = context.data
    statistics = []
    for site in range(len(data.site_names) if len(data.site_names) > 2 else 1):
        here = (data.sites == site).astype(np.int64)
        both = [y for y in np.unique(data.labels) if len(np.unique(here[data.labels == y])) == 2]
        rows = np.flatnonzero(np.isin(data.labels, both))
        if not len(rows):
            continue
        bootstrap, comparison = (
            context.bootstrap(rows),
            f"background only, {data.site_names[site]} against other hospitals",
        )
        for index in range(len(data.classes) if len(data.classes) > 2 else 1):
            is_class = data.labels == index
            surplus = float(is_class[here == 1].mean() - is_class[here == 0].mean())
            sign = -1.0 if surplus < 0 else 1.0
            metric = StratifiedDifference(sign * outputs[rows, index], here[rows], data.labels[rows])
            name = f"probability of '{data.classes[index]}', {comparison}: {'rise' if sign > 0 else 'fall'}"
            statistics.append(
                one_sided_test(name, metric, bootstrap, len(rows), threshold=MARGIN)
                if abs(surplus) >= MIN_SURPLUS
                else describe(name, metric, bootstrap, len(rows))
            )
    return statistics


PROBE = Probe(
    name="site_probe",
    title="The hospital in the features",
    question="Can the hospital be read from the features, without the lungs, and does the output follow it?",
    rule=(
        "A shortcut, if both hold: features of images without lungs predict the hospital above chance, and the output "
        f"of these images rises by more than {MARGIN} for a class in a hospital that has at least {MIN_SURPLUS} more "
        "of it than the others (or falls with less), classes being equal. That features encode the hospital is by "
        "itself no shortcut: most networks' do."
    ),
    limits=(
        "Where hospitals have the classes in similar shares there is no verdict. Logistic regression, five folds by "
        "patient: what it does not find may still be there. Lungs look different from hospital to hospital too, as "
        "noise and sharpness do. An output without lungs may follow the exposure by chance, in either direction."
    ),
    needs=(Capability.FEATURES,),
    run=run,
)
