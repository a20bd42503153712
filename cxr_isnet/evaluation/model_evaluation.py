"""The evaluation of one model: sites, calibration, groups, and internal minus external performance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cxr_isnet.evaluation.bootstrap import internal_minus_external, patient_numbers
from cxr_isnet.evaluation.calibration import (
    Calibration,
    DecisionCurve,
    calibration,
    decision_curve,
    fit_temperature,
    with_temperature,
)
from cxr_isnet.evaluation.confusion import FloatArray
from cxr_isnet.evaluation.delong import correlated_aucs
from cxr_isnet.evaluation.groups import Grouping, groupings
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import compared_metrics
from cxr_isnet.evaluation.posterior import posterior_draws, posterior_intervals
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities
from cxr_isnet.evaluation.site import SiteResult, by_site, evaluate_site
from cxr_isnet.evaluation.thresholds import ARGMAX, DecisionRule, frozen_rule


@dataclass(frozen=True)
class Settings:
    """How models are evaluated.

    Attributes:
        resamples: of the bootstrap.
        seed: of the bootstrap and the posterior.
        groups: columns to group by; None takes the usual ones.
        prevalence: by class the share of patients for which PPV and NPV are computed besides.
        sensitivity: least sensitivity that the threshold fitted on validation must reach; None takes Youden's.
    """

    resamples: int = 2000
    seed: int = 0
    groups: Sequence[str] | None = None
    prevalence: Mapping[str, float] = field(default_factory=dict)
    sensitivity: float | None = None


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
    """

    result: SiteResult
    delong: dict[str, Interval]
    posterior: dict[str, Interval]
    calibration: dict[str, Calibration]
    calibration_scaled: dict[str, Calibration]
    decision_curve: dict[str, DecisionCurve]


@dataclass(frozen=True)
class Fold:
    """One of several models, each of which is evaluated on the one site that it was not trained on.

    Attributes:
        model_uri: as the table of the site says.
        rule: from probabilities to a class, frozen on the model's own validation.
        temperature: fitted there; NaN where it predicts every image of it right.
        internal: that validation.
    """

    model_uri: str
    rule: DecisionRule
    temperature: float
    internal: SiteEvaluation


@dataclass(frozen=True)
class ModelEvaluation:
    """One model, or the models of one experiment that were each trained on all sites but one.

    Attributes:
        name: of the model.
        model_uri: as its table says; "" of several.
        rule: from probabilities to a class, the same everywhere.
        temperature: fitted on the validation table, or shipped with the model; NaN without one.
        internal: the validation table itself, on which rule and temperature were fitted; None without one.
        sites: site to evaluation, all pooled last.
        internal_minus_external: site to metric to that difference; empty without a validation table.
        groups: groupings of the pooled table.
        folds: site to the model that was trained without it; empty of one model.
    """

    name: str
    model_uri: str
    rule: DecisionRule
    temperature: float
    internal: SiteEvaluation | None
    sites: dict[str, SiteEvaluation]
    internal_minus_external: dict[str, dict[str, Interval]]
    groups: tuple[Grouping, ...]
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
    temperature: float = float("nan"),
) -> ModelEvaluation:
    """Evaluate one model.

    Args:
        name: of the model.
        table: its checked predictions on the sites.
        classes: names of the classes.
        validation: its checked predictions on in-domain validation; None without.
        settings: how.
        temperature: that the model is shipped with, for want of a validation table; NaN for none.

    Raises:
        InputError: as `frozen_rule`, `evaluate_sites` and `groupings`.
    """
    rule, internal = ARGMAX, None
    if validation is not None:
        fold = _fitted(name, str(table["model_uri"].iloc[0]), validation, classes, settings)
        rule, temperature, internal = fold.rule, fold.temperature, fold.internal
    sites = {
        site: _evaluate_site(rows, classes, rule, np.full(len(rows), temperature), settings)
        for site, rows in by_site(table).items()
    }
    return ModelEvaluation(
        name=name,
        model_uri=str(table["model_uri"].iloc[0]),
        rule=rule,
        temperature=temperature,
        internal=internal,
        sites=sites,
        internal_minus_external={site: _differences(internal, there) for site, there in sites.items() if internal},
        groups=_groups(table, classes, rule, settings),
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
        internal_minus_external={site: _differences(fold.internal, sites[site]) for site, fold in fitted.items()},
        groups=_groups(table, classes, rule, settings),
        folds=fitted,
    )


def _fitted(name: str, model_uri: str, validation: pd.DataFrame, classes: Sequence[str], settings: Settings) -> Fold:
    """What a model's validation freezes."""
    labels, scores = label_indices(validation, classes), probabilities(validation, classes)
    source = f"validation table of {name!r}"
    rule = frozen_rule(labels, scores, classes, sensitivity=settings.sensitivity, source=source)
    temperature = fit_temperature(labels, scores)
    internal = _evaluate_site(validation, classes, rule, np.full(len(validation), temperature), settings)
    return Fold(model_uri, rule, temperature, internal)


def _groups(
    table: pd.DataFrame, classes: Sequence[str], rule: DecisionRule, settings: Settings
) -> tuple[Grouping, ...]:
    return groupings(table, classes, settings.groups, resamples=settings.resamples, seed=settings.seed, rule=rule)


def _evaluate_site(
    rows: pd.DataFrame, classes: Sequence[str], rule: DecisionRule, temperature: FloatArray, settings: Settings
) -> SiteEvaluation:
    """`temperature` (N,) is each image's; NaN for none."""
    result = evaluate_site(
        rows,
        classes,
        resamples=settings.resamples,
        seed=settings.seed,
        rule=rule,
        prevalence=settings.prevalence,
    )
    labels, scores = label_indices(rows, classes), probabilities(rows, classes)
    known = labels >= 0
    patients = patient_numbers(rows)
    confusion = np.asarray(result.confusion, dtype=np.int64)
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
        posterior=posterior_intervals(posterior_draws(confusion, classes, seed=settings.seed)),
        calibration=calibrated(scores),
        calibration_scaled=calibrated(given_or_scaled) if scaled.any() else {},
        decision_curve={c: decision_curve(labels[known] == i, scores[known, i]) for i, c in enumerate(classes)},
    )


def _differences(internal: SiteEvaluation, external: SiteEvaluation) -> dict[str, Interval]:
    """NaN where the site lacks a class that validation has: means over other classes do not compare."""
    alike = internal.result.classes_present == external.result.classes_present
    unknown = Interval(float("nan"), float("nan"), float("nan"), IntervalMethod.BCA, 0)
    return {
        metric.name: internal_minus_external(internal.result.replicates, external.result.replicates, metric.name)
        if alike or not metric.needs_every_class
        else unknown
        for metric in compared_metrics()
    }
