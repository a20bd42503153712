"""The evaluation of one model: sites, calibration, groups, and internal minus external performance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from cxr_isnet.evaluation.across_sites import AcrossSites, results_across_sites
from cxr_isnet.evaluation.bootstrap import PatientBootstrap, patient_numbers
from cxr_isnet.evaluation.calibration import (
    Calibration,
    CalibrationCurve,
    DecisionCurve,
    calibration,
    calibration_curve,
    decision_curve,
    fit_temperature,
    with_temperature,
)
from cxr_isnet.evaluation.confusion import FloatArray, IntArray
from cxr_isnet.evaluation.delong import correlated_aucs
from cxr_isnet.evaluation.groups import Grouping, groupings
from cxr_isnet.evaluation.interval import Interval, IntervalMethod, difference_of_intervals, no_interval
from cxr_isnet.evaluation.metrics import ReportedMetric, compared_metrics
from cxr_isnet.evaluation.posterior import posterior_draws, posterior_intervals
from cxr_isnet.evaluation.predictions_table import failed_predictions, label_indices, probabilities
from cxr_isnet.evaluation.ranking import RocBand, roc_band
from cxr_isnet.evaluation.site import SiteResult, by_site, evaluate_checked
from cxr_isnet.evaluation.thresholds import DecisionRule, ShippedDecision, cross_fitted_decisions, frozen_rule

BAND_RESAMPLES = 400
"""Of the band of a ROC curve; enough for a standard error."""

LEAST_FOR_A_THRESHOLD = 40
"""Validation patients of a kind; of 9 and of 30 the interval of a drop of accuracy covers 0.91, of 100 it covers 0.94
(benchmarks/interval_coverage.py)."""


@dataclass(frozen=True)
class Settings:
    """How models are evaluated.

    Attributes:
        resamples: of the bootstrap.
        seed: of the bootstrap and the posterior.
        groups: columns to group by; None takes the usual ones.
        prevalence: by class the share of patients for which PPV and NPV are computed besides.
        sensitivity: least sensitivity that the threshold fitted on validation must reach; None takes Youden's.
        margin: by how much the AUC of a model that is not inferior to another may at most be lower; None asks no such
            question.
    """

    resamples: int = 2000
    seed: int = 0
    groups: Sequence[str] | None = None
    prevalence: Mapping[str, float] = field(default_factory=dict)
    sensitivity: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class SiteEvaluation:
    """One site.

    Attributes:
        result: rates and areas with bootstrap intervals.
        delong: class to its AUC against the rest with DeLong's interval, over patients.
        posterior: rate to its posterior mean and 95% highest-density interval.
        calibration: class to the calibration of its probability.
        calibration_scaled: the same with the temperature; empty without one.
        decision_curve: class to its net benefit.
        calibration_curve: class to the smooth curve of its probability; None where it does not exist. Of two classes,
            of the second.
        roc: class to its ROC curve with a band; of two classes, of the second.
    """

    result: SiteResult
    delong: dict[str, Interval]
    posterior: dict[str, Interval]
    calibration: dict[str, Calibration]
    calibration_scaled: dict[str, Calibration]
    decision_curve: dict[str, DecisionCurve]
    calibration_curve: dict[str, CalibrationCurve | None]
    roc: dict[str, RocBand]


@dataclass(frozen=True)
class Fold:
    """One of several models, each of which is evaluated on the one site that it was not trained on.

    Attributes:
        model_uri: as the table of the site says.
        rule: from probabilities to a class, frozen on the model's own validation.
        temperature: fitted there; NaN where it predicts every image of it right, infinite where it tells nothing.
        internal: that validation, its decisions cross-fitted (`cross_fitted_decisions`).
        cross_fitted: whether they are; if not, for want of patients, they are the rule's own and look too good.
    """

    model_uri: str
    rule: DecisionRule
    temperature: float
    internal: SiteEvaluation
    cross_fitted: bool


@dataclass(frozen=True)
class Flow:
    """How many images and patients of a table came how far.

    Attributes:
        failed_images: listed, but not predicted.
        images: predicted.
        patients: of those.
        labelled_images: with a label: those of which metrics are.
        labelled_patients: of those.
    """

    failed_images: int
    images: int
    patients: int
    labelled_images: int
    labelled_patients: int


@dataclass(frozen=True)
class ModelEvaluation:
    """One model, or the models of one experiment that were each trained on all sites but one.

    Attributes:
        name: of the model.
        model_uri: as its table says; "" of several.
        rule: from probabilities to a class, the same everywhere.
        temperature: fitted on the validation table, or shipped with the model; NaN without one.
        internal: the validation table, on which rule and temperature were fitted, as of `Fold`; None without one.
        sites: site to evaluation, all pooled last.
        across_sites: metric to its summary over the sites; empty of a single site.
        internal_minus_external: site to metric to that difference; empty without a validation table.
        groups: groupings of the pooled table.
        skipped_groups: column to why no groups were made by it, of those that were not asked for.
        flow: how many images and patients came how far.
        folds: site to the model that was trained without it; empty of one model.
    """

    name: str
    model_uri: str
    rule: DecisionRule
    temperature: float
    internal: SiteEvaluation | None
    sites: dict[str, SiteEvaluation]
    across_sites: dict[str, AcrossSites]
    internal_minus_external: dict[str, dict[str, Interval]]
    groups: tuple[Grouping, ...]
    skipped_groups: dict[str, str]
    flow: Flow
    folds: dict[str, Fold] = field(default_factory=dict)

    @property
    def overall(self) -> SiteEvaluation:
        """All sites together, or the only one."""
        return list(self.sites.values())[-1]

    @property
    def without_relevance(self) -> dict[str, list[str]]:
        """Reason to the sites of which no image has relevance for it."""
        sites: dict[str, list[str]] = {}
        for site, there in self.sites.items():
            if there.result.relevance_reason:
                sites.setdefault(there.result.relevance_reason, []).append(site)
        return sites


def evaluate_model(
    name: str,
    table: pd.DataFrame,
    classes: Sequence[str],
    validation: pd.DataFrame | None,
    settings: Settings,
    shipped: ShippedDecision | None = None,
) -> ModelEvaluation:
    """Evaluate one model.

    Args:
        name: of the model.
        table: its checked predictions on the sites.
        classes: names of the classes.
        validation: its checked predictions on in-domain validation; None without.
        settings: how.
        shipped: how the model decides for want of a validation table; None takes the most probable class.

    Raises:
        InputError: as `frozen_rule`, `evaluate_sites` and `groupings`.
    """
    decision, fold = shipped or ShippedDecision(), None
    rule, temperature = decision.rule, decision.temperature
    if validation is not None:
        fold = _fitted(name, str(table["model_uri"].iloc[0]), validation, classes, settings)
        rule, temperature = fold.rule, fold.temperature
    sites = {
        site: _evaluate_site(rows, classes, rule, np.full(len(rows), temperature), settings)
        for site, rows in by_site(table).items()
    }
    return ModelEvaluation(
        name=name,
        model_uri=str(table["model_uri"].iloc[0]),
        rule=rule,
        temperature=temperature,
        internal=None if fold is None else fold.internal,
        sites=sites,
        across_sites=results_across_sites({site: there.result for site, there in sites.items()}),
        internal_minus_external={site: _differences(fold, there) for site, there in sites.items() if fold},
        **_groups(table, classes, rule, settings, sites),
        flow=_flow(table),
    )


def evaluate_model_folds(
    name: str,
    folds: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    classes: Sequence[str],
    settings: Settings,
) -> ModelEvaluation:
    """Evaluate the models of one experiment, each on the site that it was not trained on, and all together.

    Every image is decided upon by the threshold of its own model, and scaled by that model's temperature.

    Args:
        name: of the experiment's method.
        folds: site to the checked predictions of its images, and to those of its model's in-domain validation.
        classes: names of the classes.
        settings: how.

    Raises:
        InputError: as `evaluate_model`.
    """
    fitted = {
        site: _fitted(f"{name} without {site}", str(table["model_uri"].iloc[0]), validation, classes, settings)
        for site, (table, validation) in folds.items()
    }
    table = pd.concat([table for table, _ in folds.values()], ignore_index=True)
    thresholds = {s: fold.rule.threshold for s, fold in fitted.items() if fold.rule.threshold is not None}
    origin = "threshold of each site's own model, frozen on its validation" if thresholds else "most probable class"
    rule = DecisionRule(None, origin, thresholds)

    def temperatures(rows: pd.DataFrame) -> FloatArray:
        return np.array([fitted[site].temperature for site in rows["site"]], dtype=np.float64)

    sites = {
        site: _evaluate_site(rows, classes, rule, temperatures(rows), settings) for site, rows in by_site(table).items()
    }
    return ModelEvaluation(
        name=name,
        model_uri="",
        rule=rule,
        temperature=float("nan"),
        internal=None,
        sites=sites,
        across_sites=results_across_sites({site: there.result for site, there in sites.items()}),
        internal_minus_external={site: _differences(fold, sites[site]) for site, fold in fitted.items()},
        **_groups(table, classes, rule, settings, sites),
        flow=_flow(table),
        folds=fitted,
    )


def _fitted(name: str, model_uri: str, validation: pd.DataFrame, classes: Sequence[str], settings: Settings) -> Fold:
    """What a model's validation freezes."""
    labels, scores = label_indices(validation, classes), probabilities(validation, classes)
    source = f"validation table of {name!r}"
    rule = frozen_rule(labels, scores, classes, sensitivity=settings.sensitivity, source=source)
    temperature = fit_temperature(labels, scores)
    decisions = cross_fitted_decisions(
        labels, scores, classes, patient_numbers(validation), sensitivity=settings.sensitivity
    )
    internal = _evaluate_site(validation, classes, rule, np.full(len(validation), temperature), settings, decisions)
    return Fold(model_uri, rule, temperature, internal, decisions is not None)


def _groups(
    table: pd.DataFrame,
    classes: Sequence[str],
    rule: DecisionRule,
    settings: Settings,
    sites: Mapping[str, SiteEvaluation],
) -> dict[str, Any]:
    groups, skipped = groupings(
        table,
        classes,
        settings.groups,
        resamples=settings.resamples,
        seed=settings.seed,
        rule=rule,
        sites={site: there.result for site, there in sites.items()},
    )
    return {"groups": groups, "skipped_groups": skipped}


def _flow(table: pd.DataFrame) -> Flow:
    labelled = table[table["label"] != ""]
    counts = [len(rows[["site", "patient_id"]].drop_duplicates()) for rows in (table, labelled)]
    return Flow(failed_predictions(table), len(table), counts[0], len(labelled), counts[1])


def _evaluate_site(
    rows: pd.DataFrame,
    classes: Sequence[str],
    rule: DecisionRule,
    temperature: FloatArray,
    settings: Settings,
    decisions: IntArray | None = None,
) -> SiteEvaluation:
    """`temperature` (N,) is each image's; NaN for none, and infinite where it tells nothing: it is not applied then."""
    result = evaluate_checked(
        rows,
        classes,
        resamples=settings.resamples,
        seed=settings.seed,
        rule=rule,
        prevalence=settings.prevalence,
        decisions=decisions,
    )
    labels, scores = label_indices(rows, classes), probabilities(rows, classes)
    known = labels >= 0
    patients = patient_numbers(rows)
    confusion = np.asarray(result.confusion, dtype=np.int64)
    shown = [(i, c) for i, c in enumerate(classes) if len(classes) > 2 or i == 1]
    bootstrap = PatientBootstrap.of(rows, resamples=min(settings.resamples, BAND_RESAMPLES), seed=settings.seed)
    scaled = np.isfinite(temperature)
    given_or_scaled = np.where(scaled[:, None], with_temperature(scores, np.where(scaled, temperature, 1)), scores)

    def calibrated(values: FloatArray) -> dict[str, Calibration]:
        return {c: calibration(labels[known] == i, values[known, i]) for i, c in enumerate(classes)}

    return SiteEvaluation(
        result=result,
        delong={
            c: correlated_aucs(labels == i, known & (labels != i), [scores[:, i]], patients).area(0)
            for i, c in enumerate(classes)
        },
        posterior=posterior_intervals(
            posterior_draws(confusion, classes, seed=settings.seed), independent=result.n_patients == result.n_images
        ),
        calibration=calibrated(scores),
        calibration_scaled=calibrated(given_or_scaled) if scaled.any() else {},
        decision_curve={
            c: decision_curve(labels[known] == i, scores[known, i], patients[known]) for i, c in enumerate(classes)
        },
        calibration_curve={
            c: calibration_curve(labels[known] == i, scores[known, i], patients[known]) for i, c in shown
        },
        roc={c: roc_band(labels == i, known & (labels != i), scores[:, i], bootstrap) for i, c in shown},
    )


def _differences(fold: Fold, external: SiteEvaluation) -> dict[str, Interval]:
    """Validation minus site, of other patients.

    NaN where the site lacks a class that validation has, since means over other classes do not compare, and where the
    decisions on validation could not be cross-fitted.
    """
    internal = fold.internal.result
    alike = internal.classes_present == external.result.classes_present
    return {
        metric.name: drop(metric, internal, external.result)
        if (alike or not metric.needs_every_class) and (fold.cross_fitted or not metric.of_confusion)
        else no_interval(np.nan, IntervalMethod.MOVER)
        for metric in compared_metrics()
    }


def drop(metric: ReportedMetric, internal: SiteResult, external: SiteResult) -> Interval:
    """A metric on validation, decided by cross-fitting, minus that of a site.

    A threshold of few patients of a kind varies by more than the resamples of either table show, so that what it
    decides is then marked as approximate.
    """
    found = difference_of_intervals(internal.metrics[metric.name], external.metrics[metric.name])
    of_a_kind = internal.metrics["balanced_accuracy"].patients or 0
    few = metric.of_confusion is not None and of_a_kind < LEAST_FOR_A_THRESHOLD
    return replace(found, approximate=found.approximate or few)
