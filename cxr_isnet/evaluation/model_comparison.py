"""Two models on the same patients: differences inside every site and over sites, tests, and their correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest, chi2

from cxr_isnet.evaluation.across_sites import AcrossSites, comparable_sites, differences_across_sites
from cxr_isnet.evaluation.bootstrap import patient_numbers
from cxr_isnet.evaluation.confusion import BoolArray, FloatArray, IntArray
from cxr_isnet.evaluation.delong import DeLongTest, correlated_aucs, delong_test
from cxr_isnet.evaluation.interval import Interval, paired_interval
from cxr_isnet.evaluation.metrics import compared_metrics
from cxr_isnet.evaluation.model_evaluation import ModelEvaluation, SiteEvaluation
from cxr_isnet.evaluation.posterior import posterior_draws, superiority
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities
from cxr_isnet.evaluation.site import POOLED, SiteResult


@dataclass(frozen=True)
class McNemar:
    """Whether one model is right more often than another.

    Attributes:
        only_first: images that only the first has right.
        only_second: images that only the second has right.
        p: two-sided; NaN with a single patient.
        method: how it was found, in words.
    """

    only_first: int
    only_second: int
    p: float
    method: str


@dataclass(frozen=True)
class SiteComparison:
    """First model minus second at one site, or at all pooled.

    Attributes:
        differences: metric to its difference, resample by resample of the same patients.
        delong: class to the difference of the AUCs against the rest, by DeLong's paired test over patients; of two
            classes, of the second.
        mcnemar: whether one is right more often.
    """

    differences: dict[str, Interval]
    delong: dict[str, DeLongTest]
    mcnemar: McNemar


@dataclass(frozen=True)
class Comparison:
    """First model minus second.

    Attributes:
        first: name of a model.
        second: name of the other.
        sites: site to comparison, all pooled last if there are several.
        within_sites: metric to its difference over sites.
        delong: class to the difference of the AUCs inside sites, every site counting alike: DeLong's test stratified by
            site. Of one site, its own.
        mcnemar: whether one is right more often inside sites and classes, every class of every site counting alike, so
            that neither knowing the hospital nor naming the frequent class earns anything.
        superiority: metric to the posterior probability that the first is better, of all sites pooled, images taken as
            independent and the models as if evaluated on different images, which is cautious.
        delong_holm: class to the p-value after Holm's correction over all comparisons and classes.
        mcnemar_holm: the p-value after Holm's correction over all comparisons.
    """

    first: str
    second: str
    sites: dict[str, SiteComparison]
    within_sites: dict[str, AcrossSites]
    delong: dict[str, DeLongTest]
    mcnemar: McNemar
    superiority: dict[str, float]
    delong_holm: dict[str, float]
    mcnemar_holm: float

    @property
    def overall(self) -> SiteComparison:
        """All sites pooled, or the only one."""
        return list(self.sites.values())[-1]


def compare(
    models: Mapping[str, ModelEvaluation], tables: Mapping[str, pd.DataFrame], classes: Sequence[str], seed: int
) -> tuple[Comparison, ...]:
    """Every pair of models, with the p-values corrected for their number.

    Args:
        models: name to evaluation.
        tables: name to checked predictions, all of the same images in the same order.
        classes: names of the classes.
        seed: of the posteriors.
    """
    pairs = [_pair(models[a], models[b], tables[a], tables[b], classes, seed) for a, b in combinations(models, 2)]
    tests = [(at, name) for at, pair in enumerate(pairs) for name in pair.delong]
    corrected = dict(zip(tests, holm([pairs[at].delong[name].p for at, name in tests]), strict=True))
    mcnemars = holm([pair.mcnemar.p for pair in pairs])
    return tuple(
        replace(
            pair,
            delong_holm={name: float(corrected[at, name]) for name in pair.delong},
            mcnemar_holm=float(mcnemars[at]),
        )
        for at, pair in enumerate(pairs)
    )


def _pair(
    first: ModelEvaluation,
    second: ModelEvaluation,
    first_table: pd.DataFrame,
    second_table: pd.DataFrame,
    classes: Sequence[str],
    seed: int,
) -> Comparison:
    labels, site = label_indices(first_table, classes), first_table["site"].to_numpy()
    scores = [probabilities(table, classes) for table in (first_table, second_table)]
    patients, known = patient_numbers(first_table), labels >= 0
    right = [model.rule.decide(p, site) == labels for model, p in zip((first, second), scores, strict=True)]
    sites = {}
    for name, there in first.sites.items():
        here = (site == name) | (name == POOLED)
        sites[name] = SiteComparison(
            paired_differences(there.result, second.sites[name].result),
            _delong(labels[here], [score[here] for score in scores], patients[here], classes),
            mcnemar(right[0][here & known], right[1][here & known], patients[here & known]),
        )
    whole = comparable_sites({name: there.result for name, there in first.sites.items() if name in set(site)})
    return Comparison(
        first=first.name,
        second=second.name,
        sites=sites,
        within_sites=differences_across_sites({name: found.differences for name, found in sites.items()}, whole),
        delong=_stratified_delong([sites[name].delong for name in whole]),
        mcnemar=stratified_mcnemar(right[0], right[1], patients, labels, np.where(np.isin(site, whole), site, "")),
        superiority=_superiority(first.overall, second.overall, classes, seed),
        delong_holm={},
        mcnemar_holm=float("nan"),
    )


def paired_differences(first: SiteResult, second: SiteResult) -> dict[str, Interval]:
    """First model minus second of every compared metric, with the interval of a paired bootstrap over patients.

    Args:
        first: of one model.
        second: of the other, of the same images in the same order, with the same seed and resamples.
    """
    found = {}
    for metric in compared_metrics():
        drawn = first.replicates.column(metric.name) - second.replicates.column(metric.name)
        ours, theirs = first.metrics[metric.name], second.metrics[metric.name]
        patients = min(ours.patients or 0, theirs.patients or 0)
        approximate = ours.approximate or theirs.approximate
        found[metric.name] = paired_interval(ours.estimate - theirs.estimate, drawn, patients, approximate)
    return found


def _delong(
    labels: IntArray, scores: Sequence[FloatArray], patients: IntArray, classes: Sequence[str]
) -> dict[str, DeLongTest]:
    tested = [(1, classes[1])] if len(classes) == 2 else list(enumerate(classes))
    return {
        name: correlated_aucs(
            labels == index, (labels >= 0) & (labels != index), [score[:, index] for score in scores], patients
        ).difference(0, 1)
        for index, name in tested
    }


def _stratified_delong(sites: Sequence[Mapping[str, DeLongTest]]) -> dict[str, DeLongTest]:
    """Mean of the sites' differences, every site counting alike; those without an interval take no part."""
    if len(sites) == 1:
        return dict(sites[0])
    found = {}
    for name in sites[0] if sites else ():
        there = [site[name].difference for site in sites if np.isfinite(site[name].difference.low)]
        variances = np.array([(one.standard_error or 0.0) ** 2 for one in there])
        patients = np.array([one.patients or 0 for one in there])
        degrees = variances.sum() ** 2 / (variances**2 / np.maximum(patients - 1, 1)).sum() if there else 0.0
        mean = float(np.mean([one.estimate for one in there])) if there else float("nan")
        variance = float(variances.sum()) / max(len(there), 1) ** 2
        found[name] = delong_test(mean, variance, int(degrees) + 1)
    return found


def mcnemar(first_right: BoolArray, second_right: BoolArray, patients: IntArray) -> McNemar:
    """McNemar's test on images, which may share patients.

    Args:
        first_right: (N,) whether the first model is right.
        second_right: (N,) whether the second is.
        patients: (N,) number of the patient.

    Returns:
        One image per patient: the exact binomial test of the discordant images. Several: chi-square of the patients'
        sums D of discordances, (sum D)^2 / sum D^2, which is McNemar's statistic when each has one image (Durkalski
        et al., Statistics in Medicine 22:2417, 2003).
    """
    gap = first_right.astype(np.int64) - second_right.astype(np.int64)
    only_first, only_second = int((gap > 0).sum()), int((gap < 0).sum())
    if len(np.unique(patients)) < 2:
        return McNemar(only_first, only_second, np.nan, "undefined: a single patient")
    if len(np.unique(patients)) == len(patients):
        discordant = only_first + only_second
        p = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
        return McNemar(only_first, only_second, p, "exact McNemar test")
    sums = np.bincount(patients, weights=gap)
    spread = float((sums**2).sum())
    p = float(chi2.sf(sums.sum() ** 2 / spread, 1)) if spread else 1.0
    return McNemar(only_first, only_second, p, "McNemar test for clustered pairs (Durkalski)")


def stratified_mcnemar(
    first_right: BoolArray, second_right: BoolArray, patients: IntArray, labels: IntArray, sites: npt.NDArray[np.str_]
) -> McNemar:
    """McNemar's test inside sites and classes, every class of every site counting alike.

    Images of a stratum weigh 1 / (their number): the sum of weighted discordances is, but for a factor, the difference
    of the balanced accuracies inside sites. Patients' sums D of them give the statistic (sum D)^2 / sum D^2, as in
    `mcnemar`.

    Args:
        first_right: (N,) whether the first model is right.
        second_right: (N,) whether the second is.
        patients: (N,) number of the patient.
        labels: (N,) index of the class; -1 where unknown: it takes no part.
        sites: (N,) names; "" takes no part.
    """
    used = (labels >= 0) & (sites != "")
    gap = (first_right.astype(np.int64) - second_right.astype(np.int64))[used]
    strata = pd.Series(list(zip(sites[used], labels[used], strict=True)), dtype="object")
    sums = np.bincount(patients[used], weights=gap / strata.map(strata.value_counts()).to_numpy(np.float64))
    spread = float((sums**2).sum())
    p = float(chi2.sf(sums.sum() ** 2 / spread, 1)) if spread else 1.0
    if len(np.unique(patients[used])) < 2:
        p = float("nan")
    method = "McNemar test, stratified by site and class"
    return McNemar(int((gap > 0).sum()), int((gap < 0).sum()), p, method)


def holm(p_values: Sequence[float]) -> FloatArray:
    """Holm's step-down correction: p-values that hold together at the level at which each is read.

    Args:
        p_values: of the tests; NaN is no test and stays NaN.
    """
    given: FloatArray = np.asarray(p_values, dtype=np.float64)
    corrected: FloatArray = np.full(len(given), np.nan)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return corrected


def _superiority(first: SiteEvaluation, second: SiteEvaluation, classes: Sequence[str], seed: int) -> dict[str, float]:
    draws = [
        posterior_draws(np.asarray(site.result.confusion, dtype=np.int64), classes, seed=seed + offset)
        for offset, site in enumerate((first, second))
    ]
    return {
        metric.name: superiority(
            draws[0][metric.name], draws[1][metric.name], greater_is_better=metric.greater_is_better
        )
        for metric in compared_metrics()
        if metric.of_confusion
    }
