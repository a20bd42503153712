"""A study: one or more models on the same images, each evaluated, and every two compared on the same patients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.control_comparison import ControlResult, compare_with_controls
from cxr_isnet.evaluation.metrics import summary_metrics
from cxr_isnet.evaluation.model_comparison import Comparison, compare
from cxr_isnet.evaluation.model_evaluation import ModelEvaluation, Settings, evaluate_model, evaluate_model_folds
from cxr_isnet.evaluation.predictions_table import check_predictions, predicted_classes, read_predictions
from cxr_isnet.evaluation.thresholds import ShippedDecision


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
        controls: site to what classifiers that see no lungs reach there; empty where none was given.
    """

    classes: tuple[str, ...]
    settings: Settings
    models: dict[str, ModelEvaluation]
    comparisons: tuple[Comparison, ...]
    audit: Mapping[str, Any] | None = None
    not_evaluated: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, tuple[ControlResult, ...]] = field(default_factory=dict)

    @property
    def findings(self) -> list[str]:
        """What the numbers say, in sentences: of every model, then of every pair."""
        found = [sentence for model in self.models.values() for sentence in _of_model(model)]
        for comparison in self.comparisons:
            found += _of_comparison(comparison)
            if self.settings.margin is not None:
                found += _of_margin(comparison, self.settings.margin)
        return found


def _of_model(model: ModelEvaluation) -> Iterator[str]:
    rules = {"": model.rule, **{f" without {site}": fold.rule for site, fold in model.folds.items()}}
    for part, rule in rules.items():
        if rule.tells_nothing:
            yield f"{model.name}{part} tells nothing on its validation table: no threshold is better than chance there."
    if math.isinf(model.temperature):
        yield (
            f"{model.name} tells nothing on its validation table: equal probabilities of all classes have a lower log "
            "loss than its own with any temperature, so none is applied."
        )
    for metric in summary_metrics():
        across = model.across_sites.get(metric.name)
        if across is not None and across.pooled is not None and across.pooled_outside:
            yield (
                f"{model.name}: {metric.words} of all sites pooled, {across.pooled.estimate:.3f}, lies outside the "
                f"range of the sites ({across.lowest:.3f} to {across.highest:.3f}): pooling counts patients of one "
                "hospital against those of another, so that this number is of the mixture and holds in none of them."
            )


def _of_comparison(found: Comparison) -> Iterator[str]:
    where = _where(found)
    auc, p = found.within_sites["auc"].mean, next(iter(found.delong_holm.values()))
    tested = len(found.delong_holm) == 1
    ahead, behind = (found.first, found.second) if auc.estimate > 0 else (found.second, found.first)
    differs = auc.low > 0 or auc.high < 0
    if differs and (p < 0.05 or not tested):
        p_text = f", p {'< 0.001' if p < 0.001 else f'= {p:.3f}'} by DeLong's test" if tested else ""
        yield f"{ahead} is ahead of {behind} in AUC {where}: by {abs(auc.estimate):.3f}{p_text}."
    else:
        yield f"No difference in AUC between {found.first} and {found.second} is shown {where}."
    pooled = found.within_sites["auc"].pooled
    if pooled is not None and pooled.estimate * auc.estimate < 0:
        yield (
            f"Of all sites pooled the AUC of {behind} is higher by {abs(pooled.estimate):.3f}; that counts patients of "
            "one hospital against those of another, which a model wins by knowing the hospital. Read the sites."
        )
    accuracy, balanced = (found.within_sites[name].mean for name in ("accuracy", "balanced_accuracy"))
    if accuracy.estimate * balanced.estimate < 0:
        names = (found.first, found.second) if accuracy.estimate > 0 else (found.second, found.first)
        yield (
            f"{names[0]} is right more often {where} (accuracy), {names[1]} has the higher balanced accuracy: accuracy "
            "rewards naming the class that is frequent at a site, whatever the image shows."
        )


def _of_margin(found: Comparison, margin: float) -> Iterator[str]:
    auc = found.within_sites["auc"].mean
    ends = {(found.first, found.second): auc.low, (found.second, found.first): -auc.high}
    for (ours, theirs), low in ends.items():
        shown = f"{low:.3f}" if math.isfinite(low) else "which is undefined"
        if low > -margin:
            yield (
                f"{ours} is not inferior to {theirs} in AUC {_where(found)} at the margin {margin:g}: the lower end of "
                f"the 95% interval of the difference, {shown}, is above {-margin:g}."
            )
        else:
            yield (
                f"It is not shown that {ours} is not inferior to {theirs} in AUC {_where(found)} at the margin "
                f"{margin:g}: the lower end of the difference is {shown}."
            )


def _where(found: Comparison) -> str:
    return "inside the sites" if len(found.sites) > 1 else f"at {next(iter(found.sites))}"


def evaluate_tables(
    tables: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    validation: Mapping[str, pd.DataFrame],
    settings: Settings,
    audit: Mapping[str, Any] | None = None,
    shipped: Mapping[str, ShippedDecision] | None = None,
    controls: Mapping[str, pd.DataFrame] | None = None,
) -> Study:
    """Evaluate and compare models.

    Args:
        tables: name to checked predictions, all of the same images in the same order (`read_tables`).
        classes: names of the classes.
        validation: name to checked predictions on in-domain validation; none, or one of each model.
        settings: how.
        audit: as of `Study`.
        shipped: name to how the model decides where it has no validation table; else by the most probable class.
        controls: name to checked predictions of a control on some or all of the same images.

    Raises:
        InputError: as `evaluate_model` and `compare_with_controls`; a validation table is missing; a prevalence is of
            no class or not in (0, 1).
    """
    lacking = sorted(set(tables) - set(validation)) if validation else []
    if lacking:
        raise InputError(f"validation names no table of model {lacking[0]!r}. Give one for every model, or none")
    check_prevalence(settings, classes)
    models = {
        name: evaluate_model(name, table, classes, validation.get(name), settings, (shipped or {}).get(name))
        for name, table in tqdm(tables.items(), desc="evaluating models", disable=None)
    }
    return Study(
        tuple(classes),
        settings,
        models,
        compare(models, tables, classes, settings.seed),
        audit,
        controls=_controls(tables, controls, classes, settings),
    )


def _controls(
    tables: Mapping[str, pd.DataFrame],
    controls: Mapping[str, pd.DataFrame] | None,
    classes: Sequence[str],
    settings: Settings,
) -> dict[str, tuple[ControlResult, ...]]:
    if not controls:
        return {}
    return compare_with_controls(tables, controls, classes, resamples=settings.resamples, seed=settings.seed)


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
    controls: Mapping[str, pd.DataFrame] | None = None,
) -> Study:
    """Evaluate one experiment by models that were each trained on all sites but one.

    Args:
        name: of the experiment's method.
        folds: as of `evaluate_model_folds`.
        classes: names of the classes.
        settings: how; `check_prevalence` of them.
        not_evaluated: as of `Study`.
        controls: name to checked predictions of a control, of every site by the control that learned with its model.
    """
    model = evaluate_model_folds(name, folds, classes, settings)
    together = pd.concat([table for table, _ in folds.values()], ignore_index=True)
    beside = _controls({name: together}, controls, classes, settings)
    return Study(tuple(classes), settings, {name: model}, (), not_evaluated=not_evaluated, controls=beside)


def check_prevalence(settings: Settings, classes: Sequence[str]) -> None:
    """Raises `InputError` if a prevalence is of no class or not in (0, 1)."""
    for name, share in settings.prevalence.items():
        if name not in classes or not 0 < share < 1:
            raise InputError(f"prevalence is {share} of {name!r}: give a share in (0, 1) of one of {list(classes)}")
