"""A study: one or more models on the same images, each evaluated, and every two compared on the same patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.bootstrap import paired_difference, patient_numbers
from cxr_isnet.evaluation.delong import DeLongTest, correlated_aucs
from cxr_isnet.evaluation.interval import Interval
from cxr_isnet.evaluation.metrics import compared_metrics
from cxr_isnet.evaluation.model_evaluation import (
    ModelEvaluation,
    Settings,
    SiteEvaluation,
    evaluate_model,
    evaluate_model_folds,
)
from cxr_isnet.evaluation.posterior import posterior_draws, superiority
from cxr_isnet.evaluation.predictions_table import (
    check_predictions,
    label_indices,
    predicted_classes,
    probabilities,
    read_predictions,
)
from cxr_isnet.evaluation.significance import McNemar, holm, mcnemar


@dataclass(frozen=True)
class Comparison:
    """First model minus second, on all sites together.

    Attributes:
        first: name of a model.
        second: name of the other.
        differences: metric to its difference with the interval of a paired bootstrap over patients.
        delong: class to the difference of the AUCs against the rest, by DeLong's paired test over patients; of two
            classes, of the second.
        mcnemar: whether one is right more often.
        superiority: metric to the posterior probability that the first is better, images taken as independent and
            the models as if evaluated on different images, which is cautious.
        delong_holm: class to the p-value after Holm's correction over all comparisons and classes.
        mcnemar_holm: the p-value after Holm's correction over all comparisons.
    """

    first: str
    second: str
    differences: dict[str, Interval]
    delong: dict[str, DeLongTest]
    mcnemar: McNemar
    superiority: dict[str, float]
    delong_holm: dict[str, float]
    mcnemar_holm: float


@dataclass(frozen=True)
class Study:
    """Everything that the report says.

    Attributes:
        classes: names of the classes; of two, the second is the one to find.
        settings: how the models were evaluated.
        models: name to evaluation.
        comparisons: of every pair of models.
        audit: content of the shortcut audit's `audit.json`; None without one.
        not_evaluated: of models that were each trained without one site, the sites whose model could not be trained,
            and why.
    """

    classes: tuple[str, ...]
    settings: Settings
    models: dict[str, ModelEvaluation]
    comparisons: tuple[Comparison, ...]
    audit: Mapping[str, Any] | None = None
    not_evaluated: Mapping[str, str] = field(default_factory=dict)


def evaluate_tables(
    tables: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    validation: Mapping[str, pd.DataFrame],
    settings: Settings,
    audit: Mapping[str, Any] | None = None,
    temperatures: Mapping[str, float] | None = None,
) -> Study:
    """Evaluate and compare models.

    Args:
        tables: name to checked predictions, all of the same images in the same order (`read_tables`).
        classes: names of the classes.
        validation: name to checked predictions on in-domain validation; none, or one of each model.
        settings: how.
        audit: as of `Study`.
        temperatures: name to the temperature that the model is shipped with; taken where it has no validation table.

    Raises:
        InputError: as `evaluate_model`; a validation table is missing; a prevalence is of no class or not in (0, 1).
    """
    lacking = sorted(set(tables) - set(validation)) if validation else []
    if lacking:
        raise InputError(f"validation names no table of model {lacking[0]!r}. Give one for every model, or none")
    check_prevalence(settings, classes)
    shipped = temperatures or {}
    models = {
        name: evaluate_model(name, table, classes, validation.get(name), settings, shipped.get(name, math.nan))
        for name, table in tqdm(tables.items(), desc="evaluating models", disable=None)
    }
    return Study(tuple(classes), settings, models, compare(models, tables, classes, settings.seed), audit)


def evaluate_table(
    table: pd.DataFrame | str | Path,
    *,
    validation: pd.DataFrame | str | Path | None = None,
    classes: Sequence[str] = (),
    settings: Settings | None = None,
    name: str = "model",
) -> Study:
    """Evaluate the predictions of one model.

    Args:
        table: predictions, a frame or a file (CSV, Parquet): path, patient_id, site, label, probability_<class>.
        validation: predictions on in-domain validation, which set threshold and temperature; None without.
        classes: names of the classes in order, of two the one to find last; empty takes the probability columns.
        settings: how; None takes the defaults.
        name: of the model.

    Returns:
        The study; `study.models[name].sites` has the metrics of every site, with their intervals.

    Raises:
        InputError: a table or a setting cannot be used.

    Example:
        >>> study = evaluate_table("runs/first/validation/clean/predictions.csv", settings=Settings(resamples=50))
        >>> study.models["model"].sites["Alder"].result.n_images
        2
    """

    def read(given: pd.DataFrame | str | Path, named: Sequence[str]) -> pd.DataFrame:
        if not isinstance(given, pd.DataFrame):
            return read_predictions(given, named)
        frame = given if "model_uri" in given.columns else given.assign(model_uri="")
        return check_predictions(frame, named or predicted_classes(frame, "predictions"))

    checked = read(table, classes)
    known = tuple(classes) or predicted_classes(checked, "predictions")
    internal = {} if validation is None else {name: read(validation, known)}
    return evaluate_tables({name: checked}, known, internal, settings or Settings())


def evaluate_folds(
    name: str,
    folds: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    classes: Sequence[str],
    settings: Settings,
    not_evaluated: Mapping[str, str],
) -> Study:
    """Evaluate one experiment by models that were each trained on all sites but one.

    Args:
        name: of the experiment's method.
        folds: as of `evaluate_model_folds`.
        classes: names of the classes.
        settings: how; `check_prevalence` of them.
        not_evaluated: as of `Study`.
    """
    model = evaluate_model_folds(name, folds, classes, settings)
    return Study(tuple(classes), settings, {name: model}, (), not_evaluated=not_evaluated)


def check_prevalence(settings: Settings, classes: Sequence[str]) -> None:
    """Raises `InputError` if a prevalence is of no class or not in (0, 1)."""
    for name, share in settings.prevalence.items():
        if name not in classes or not 0 < share < 1:
            raise InputError(f"prevalence is {share} of {name!r}: give a share in (0, 1) of one of {list(classes)}")


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
    labels = label_indices(first_table, classes)
    scores = [probabilities(table, classes) for table in (first_table, second_table)]
    patients, known = patient_numbers(first_table), labels >= 0
    sites = first_table["site"]
    right = [model.rule.decide(p, sites) == labels for model, p in zip((first, second), scores, strict=True)]
    tested = [(1, classes[1])] if len(classes) == 2 else list(enumerate(classes))
    return Comparison(
        first=first.name,
        second=second.name,
        differences={
            metric.name: paired_difference(
                first.overall.result.replicates, second.overall.result.replicates, metric.name
            )
            for metric in compared_metrics()
        },
        delong={
            name: correlated_aucs(
                labels == index, known & (labels != index), [p[:, index] for p in scores], patients
            ).difference(0, 1)
            for index, name in tested
        },
        mcnemar=mcnemar(right[0][known], right[1][known], patients[known]),
        superiority=_superiority(first.overall, second.overall, classes, seed),
        delong_holm={},
        mcnemar_holm=float("nan"),
    )


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
