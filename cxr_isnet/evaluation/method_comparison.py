"""Methods side by side: each trained several times, on the same external hospitals, with paired tests against one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pandas as pd

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.bootstrap import (
    PatientBootstrap,
    RepeatedDifference,
    RepeatedMetric,
    Replicates,
    difference,
)
from cxr_isnet.evaluation.interval import Interval, IntervalMethod
from cxr_isnet.evaluation.metrics import WeightedMean
from cxr_isnet.evaluation.model_comparison import holm
from cxr_isnet.evaluation.model_evaluation import Settings
from cxr_isnet.evaluation.posterior import highest_density, posterior_draws
from cxr_isnet.evaluation.predictions_table import label_indices, probabilities, relevance_excess
from cxr_isnet.evaluation.site import SiteResult, by_site, evaluate_site
from cxr_isnet.evaluation.thresholds import DecisionRule, frozen_rule

EXCESS = "relevance_excess"
"""Relevance in lungs minus what the same maps have there mirrored, turned and shifted in the image."""


@dataclass(frozen=True)
class TrainingTables:
    """Checked predictions tables of one training, by condition (`clean`; with marks `biased` and `swapped`).

    Attributes:
        validation: Of in-domain validation images.
        external: Of the external hospitals, the same images in the same order for every training.
    """

    validation: Mapping[str, pd.DataFrame]
    external: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class ComparedMethod:
    """One method's row.

    Attributes:
        name: Of the method.
        trainings: How often it was trained.
        in_domain_auc: On validation images without marks, all sites together.
        auc: Condition to site to the AUC within that site.
        mean_auc: Mean over the external sites that have every class of the AUC within the site, without marks.
        macro_f1: Site to macro-F1 at the frozen rule, without marks; interval over patients and trainings.
        macro_f1_posterior: Site to the mean and 95% highest-density interval of the study's Bayesian model, draws of
            all trainings together.
        balanced_accuracy: Site to balanced accuracy at the rule that validation froze.
        relevance_in_lung: Site to the share of the absolute relevance in the lungs.
        relevance_excess: Site to that share minus the one of the same maps elsewhere in the image.
        biased_minus_swapped: Mean AUC with the marks of the training minus that with another class's; None without.
        internal_minus_external: In-domain AUC minus the mean external AUC.
        against_reference: Mean AUC minus that of the reference method; None for the reference.
        p_holm: Its p-value after Holm's correction over all methods; NaN for the reference.
        costs: Name to a number that is no metric: parameters, seconds per image.
    """

    name: str
    trainings: int
    in_domain_auc: Interval
    auc: Mapping[str, Mapping[str, Interval]]
    mean_auc: Interval
    macro_f1: Mapping[str, Interval]
    macro_f1_posterior: Mapping[str, Interval]
    balanced_accuracy: Mapping[str, Interval]
    relevance_in_lung: Mapping[str, Interval]
    relevance_excess: Mapping[str, Interval]
    biased_minus_swapped: Interval | None
    internal_minus_external: Interval
    against_reference: RepeatedDifference | None
    p_holm: float
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodComparison:
    """Everything that the comparison's report says.

    Attributes:
        classes: Names of the classes.
        reference: The method that the others are tested against.
        sites: External sites, in order.
        conditions: Conditions, `clean` among them.
        methods: A row for each method.
        controls: A row for each control that sees no lungs: what it reaches, a shortcut reaches.
        failed: Training to why it failed.
        settings: How the predictions were evaluated.
        penalties: Rows that differ in the weight of the penalty on the background alone, with that weight.
        lungs_alone: Row of the method that sees the lungs alone; "" where there is none.
    """

    classes: tuple[str, ...]
    reference: str
    sites: tuple[str, ...]
    conditions: tuple[str, ...]
    methods: tuple[ComparedMethod, ...]
    controls: tuple[ComparedMethod, ...]
    failed: Mapping[str, str]
    settings: Settings
    penalties: Mapping[str, float] = field(default_factory=dict)
    lungs_alone: str = ""

    @property
    def offered_penalties(self) -> dict[str, float]:
        """The penalties that have a row; none where there are not two to choose from, or no row of the lungs alone."""
        rows = {row.name for row in self.methods}
        weights = {name: weight for name, weight in self.penalties.items() if name in rows}
        return weights if self.lungs_alone in rows and len(set(weights.values())) > 1 else {}

    @property
    def chosen_penalty(self) -> str | None:
        """The row with the largest penalty whose in-domain AUC reaches, within its interval, what the lungs alone tell.

        A larger one takes disease away that the lungs do show; a smaller one leaves more of the background in. External
        hospitals have no part in it. None where no row reaches it, or nothing is offered.
        """
        rows, weights = {row.name: row.in_domain_auc for row in self.methods}, self.offered_penalties
        if not weights:
            return None
        wanted = rows[self.lungs_alone].estimate
        reached = [name for name in weights if max(rows[name].estimate, rows[name].high) >= wanted]
        return max(reached, key=lambda name: weights[name], default=None)


def compare_methods(
    methods: Mapping[str, Sequence[TrainingTables]],
    classes: Sequence[str],
    reference: str,
    settings: Settings,
    *,
    controls: Mapping[str, Sequence[TrainingTables]] | None = None,
    costs: Mapping[str, Mapping[str, float]] | None = None,
    failed: Mapping[str, str] | None = None,
    penalties: Mapping[str, float] | None = None,
    lungs_alone: str = "",
) -> MethodComparison:
    """Evaluates methods that were trained several times, and tests each against one of them.

    Args:
        methods: Name to the tables of its trainings.
        classes: Names of the classes.
        reference: Name of the method that the others are tested against; without trainings nothing is tested.
        settings: How.
        controls: As `methods`, of predictors that see no lungs.
        costs: Method to its costs.
        failed: As of `MethodComparison`.
        penalties: As of `MethodComparison`.
        lungs_alone: As of `MethodComparison`.

    Raises:
        InputError: There is no training at all, or two trainings were evaluated on other external images.
    """
    everything = list(chain.from_iterable(methods.values()))
    if not everything:
        raise InputError("no training has finished: there is nothing to compare")
    _check_same_images(everything)
    conditions = tuple(everything[0].external)
    evaluated = {name: _Repeated.of(tables, classes, settings) for name, tables in methods.items() if tables}
    against = evaluated.get(reference)
    tests = {
        name: difference(found.mean_auc(), against.mean_auc(), ((settings.seed, at + 1), (settings.seed, 0)))
        for at, (name, found) in enumerate(evaluated.items())
        if against is not None and name != reference
    }
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    rows = tuple(
        replace(
            found.row(name),
            against_reference=tests.get(name),
            p_holm=float(corrected.get(name, np.nan)),
            costs=dict((costs or {}).get(name, {})),
        )
        for name, found in evaluated.items()
    )
    sites = tuple(next(iter(evaluated.values())).sites)
    below = tuple(
        _comparable(_Repeated.of(tables, classes, settings).row(name), sites)
        for name, tables in (controls or {}).items()
        if tables
    )
    return MethodComparison(
        tuple(classes),
        reference,
        sites,
        conditions,
        rows,
        below,
        dict(failed or {}),
        settings,
        dict(penalties or {}),
        lungs_alone,
    )


def _comparable(row: ComparedMethod, sites: Sequence[str]) -> ComparedMethod:
    """A row that lacks a site, as a control of lung masks where a hospital has none, has no mean over the sites."""
    if set(sites) <= set(row.auc["clean"]):
        return row
    missing = _undefined(row.trainings).interval()
    lost = None if row.biased_minus_swapped is None else missing
    return replace(row, mean_auc=missing, internal_minus_external=missing, biased_minus_swapped=lost)


def _undefined(trainings: int) -> RepeatedMetric:
    return RepeatedMetric(np.full(trainings, np.nan), np.full((trainings, 2), np.nan))


@dataclass(frozen=True)
class _Repeated:
    """The evaluated trainings of one method: by training the validation, and condition to site to result."""

    internal: Sequence[SiteResult]
    external: Sequence[Mapping[str, Mapping[str, SiteResult]]]
    excess: Sequence[Mapping[str, Replicates]]
    settings: Settings

    @classmethod
    def of(cls, trainings: Sequence[TrainingTables], classes: Sequence[str], settings: Settings) -> _Repeated:
        """Evaluates every training by its own rule, frozen on its validation; all resample the same patients."""
        internal, external, excess = [], [], []
        for tables in trainings:
            validation = tables.validation["clean"]
            labels, scores = label_indices(validation, classes), probabilities(validation, classes)
            rule = frozen_rule(
                labels, scores, classes, sensitivity=settings.sensitivity, source="validation predictions"
            )

            def evaluated(rows: pd.DataFrame, rule: DecisionRule = rule) -> SiteResult:
                return evaluate_site(rows, classes, resamples=settings.resamples, seed=settings.seed, rule=rule)

            internal.append(evaluated(validation))
            external.append(
                {
                    condition: {site: evaluated(rows) for site, rows in by_site(table).items()}
                    for condition, table in tables.external.items()
                }
            )
            clean = by_site(tables.external["clean"])
            excess.append({site: _excess(rows, settings) for site, rows in clean.items()})
        return cls(internal, external, excess, settings)

    @property
    def sites(self) -> list[str]:
        """External sites; all together last, where there are several."""
        return list(self.external[0]["clean"])

    def metric(self, name: str, condition: str, site: str) -> RepeatedMetric:
        return _repeated([training[condition][site].replicates for training in self.external], name)

    def mean_auc(self, condition: str = "clean") -> RepeatedMetric:
        """Mean of the AUC within each external site that has every class; of any two classes, where none has all."""
        results = self.external[0][condition]
        single = [site for site in results if len(results) == 1 or site != "pooled"]
        whole = [s for s in single if len(results[s].classes_present) == len(results[s].classes)]
        some = [s for s in single if len(results[s].classes_present) > 1]
        chosen = whole or some
        if not chosen:
            return _undefined(len(self.external))
        parts = [self.metric("auc", condition, site) for site in chosen]
        rows = min(part.replicates.shape[1] for part in parts)
        return RepeatedMetric(
            np.mean([part.estimates for part in parts], axis=0),
            np.mean([part.replicates[:, :rows] for part in parts], axis=0),
        )

    def row(self, name: str) -> ComparedMethod:
        """The method's row, without the test against the reference and without costs."""
        conditions = list(self.external[0])

        def of(metric: str) -> dict[str, Interval]:
            return {site: self.metric(metric, "clean", site).interval() for site in self.sites}

        marked = {"biased", "swapped"} <= set(conditions)
        internal = _repeated([result.replicates for result in self.internal], "auc")
        return ComparedMethod(
            name=name,
            trainings=len(self.external),
            in_domain_auc=internal.interval(),
            auc={c: {site: self.metric("auc", c, site).interval() for site in self.sites} for c in conditions},
            mean_auc=self.mean_auc().interval(),
            macro_f1=of("macro_f1"),
            macro_f1_posterior={site: self._posterior(site) for site in self.sites},
            balanced_accuracy=of("balanced_accuracy"),
            relevance_in_lung=of("relevance_in_lung"),
            relevance_excess={
                site: _repeated([training[site] for training in self.excess], EXCESS).interval() for site in self.sites
            },
            biased_minus_swapped=(self.mean_auc("biased") - self.mean_auc("swapped")).interval() if marked else None,
            internal_minus_external=(internal - self.mean_auc()).interval(),
            against_reference=None,
            p_holm=float("nan"),
        )

    def _posterior(self, site: str) -> Interval:
        draws = np.concatenate(
            [
                posterior_draws(
                    np.asarray(training["clean"][site].confusion, dtype=np.int64),
                    training["clean"][site].classes,
                    seed=self.settings.seed + at,
                )["macro_f1"]
                for at, training in enumerate(self.external)
            ]
        )
        return Interval(float(np.mean(draws)), *highest_density(draws), IntervalMethod.POSTERIOR)


def _repeated(trainings: Sequence[Replicates], metric: str) -> RepeatedMetric:
    places = [found.names.index(metric) for found in trainings]
    return RepeatedMetric.of(
        [float(found.estimates[at]) for found, at in zip(trainings, places, strict=True)],
        [found.replicates[:, at] for found, at in zip(trainings, places, strict=True)],
    )


def _excess(rows: pd.DataFrame, settings: Settings) -> Replicates:
    bootstrap = PatientBootstrap.of(
        rows, resamples=settings.resamples, seed=settings.seed, method=IntervalMethod.PERCENTILE
    )
    return bootstrap.resample({EXCESS: WeightedMean(relevance_excess(rows))})


def _check_same_images(trainings: Sequence[TrainingTables]) -> None:
    first = trainings[0].external["clean"]["path"].tolist()
    for tables in trainings[1:]:
        if tables.external["clean"]["path"].tolist() != first:
            raise InputError("the trainings were evaluated on other external images: compare those of one study only")


def flat_numbers(row: ComparedMethod) -> dict[str, float]:
    """The numbers of one method by name, as `clean/north/auc_low`, as MLflow and a CSV file take them."""

    def ends(name: str, found: Interval) -> dict[str, float]:
        return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}

    numbers = {"trainings": float(row.trainings), **ends("in_domain_auc", row.in_domain_auc)}
    numbers |= ends("mean_auc", row.mean_auc) | ends("internal_minus_external", row.internal_minus_external)
    for condition, sites in row.auc.items():
        for site, found in sites.items():
            numbers |= ends(f"{condition}/{site}/auc", found)
    names = ("macro_f1", "macro_f1_posterior", "balanced_accuracy", "relevance_in_lung", "relevance_excess")
    for name in names:
        for site, found in getattr(row, name).items():
            numbers |= ends(f"clean/{site}/{name}", found)
    if row.biased_minus_swapped is not None:
        numbers |= ends("biased_minus_swapped", row.biased_minus_swapped)
    if row.against_reference is not None:
        numbers |= ends("against_reference", row.against_reference.interval)
        numbers |= {"against_reference_p": row.against_reference.p, "against_reference_p_holm": row.p_holm}
    return numbers | {f"cost/{name}": value for name, value in row.costs.items()}
