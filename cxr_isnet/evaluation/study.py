"""A study: one or more models on the same images, judged, compared, and ready to be written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

import pandas as pd
from tqdm import tqdm

from cxr_isnet.errors import InputError
from cxr_isnet.evaluation.assessment import (
    ModelEvaluation,
    Settings,
    SiteEvaluation,
    evaluate_model,
    evaluate_model_folds,
)
from cxr_isnet.evaluation.bootstrap import Draws
from cxr_isnet.evaluation.model_comparison import Comparison, compare
from cxr_isnet.evaluation.site import SiteResult


@dataclass(frozen=True)
class Study:
    """Everything that the report says.

    Attributes:
        classes: names of the classes; of two, the second is the one to find.
        settings: how the models were judged.
        models: name to assessment.
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
    """Judge and compare models.

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
        for name, table in tqdm(tables.items(), desc="judging models", disable=None)
    }
    return Study(tuple(classes), settings, models, compare(models, tables, classes, settings.seed), audit)


def evaluate_folds(
    name: str,
    folds: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    classes: Sequence[str],
    settings: Settings,
    not_evaluated: Mapping[str, str],
) -> Study:
    """Judge one recipe by models that were each trained on all sites but one.

    Args:
        name: of the recipe's method.
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


def study_json(study: Study) -> dict[str, Any]:
    """The study as JSON can hold it: NaN becomes None. `study.schema.json` documents it."""
    plain: dict[str, Any] = _plain(study)
    return {"schema_version": 1, **plain}


def _plain(value: Any) -> Any:
    """Dataclasses as mappings without their resamples, enums as their values, NaN as None."""
    if isinstance(value, SiteResult):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        named = {part.name: getattr(value, part.name) for part in fields(value)}
        return {name: _plain(part) for name, part in named.items() if not isinstance(part, Draws)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def study_table(study: Study) -> pd.DataFrame:
    """Long table of every number with an interval.

    Returns:
        Columns: `model`; `part`, which is `site`, `drop`, or `by` and the column that groups are made by; `group`, the
        site or group; `class`, "" for all together; `metric`; `method` of the interval; `value`, `low`, `high`; and,
        but for drops, `n_images`, `n_patients`, and of sites `classes_present`.
    """
    rows: list[dict[str, Any]] = []
    for model in study.models.values():
        parts = {"validation": model.internal} if model.internal is not None else {}
        parts |= {f"validation without {site}": fold.internal for site, fold in model.folds.items()}
        for site, there in [*parts.items(), *model.sites.items()]:
            rows += [{"model": model.name, "part": "site", "group": site} | row for row in _site_rows(there)]
        for site, drops in model.drops.items():
            at = {"model": model.name, "part": "drop", "group": site, "class": ""}
            rows += [at | _number(metric, "bootstrap", e.value, e.low, e.high) for metric, e in drops.items()]
        for grouping in model.groups:
            for group in grouping.groups:
                at = {"model": model.name, "part": f"by {grouping.column}", "group": group.group, "class": ""}
                counts = {"n_images": group.n_images, "n_patients": group.n_patients}
                for metric, e in group.estimates.items():
                    rows.append(at | _number(metric, "bootstrap", e.value, e.low, e.high) | counts)
    return pd.DataFrame(rows)


def _site_rows(there: SiteEvaluation) -> list[dict[str, Any]]:
    result = there.result
    counts = {
        "n_images": result.n_labelled,
        "n_patients": result.n_patients,
        "classes_present": " ".join(result.classes_present),
    }
    rows = [
        {"class": name} | _number(metric, "bootstrap", e.value, e.low, e.high)
        for name, estimates in {"": result.estimates(), **result.by_class}.items()
        for metric, e in estimates.items()
    ]
    rows += [{"class": n} | _number("auc", "delong", e.value, e.low, e.high) for n, e in there.delong.items()]
    rows += [{"class": ""} | _number(m, "posterior", c.mean, c.low, c.high) for m, c in there.posterior.items()]
    return [row | counts for row in rows]


def _number(metric: str, method: str, value: float, low: float, high: float) -> dict[str, Any]:
    return {"metric": metric, "method": method, "value": value, "low": low, "high": high}


def study_metrics(study: Study) -> dict[str, float]:
    """Flat numbers for a tracking server, as `isnet.north.auc_low`."""
    return {
        f"{name}.{site}.{metric}": value
        for name, model in study.models.items()
        for site, there in model.sites.items()
        for metric, value in there.result.metrics().items()
    }


def study_text(study: Study) -> str:
    """A line per model and site: counts, AUC and balanced accuracy with their intervals."""
    lines = [f"{'model':<20} {'site':<28} {'images':>6} {'patients':>8}  {'AUC (95% interval)':<22} balanced accuracy"]
    for name, model in study.models.items():
        for site, there in model.sites.items():
            r = there.result
            auc, balanced = (f"{e.value:.3f} ({e.low:.3f}-{e.high:.3f})" for e in (r.auc, r.balanced_accuracy))
            lines.append(f"{name:<20} {site:<28} {r.n_images:>6} {r.n_patients:>8}  {auc:<22} {balanced}")
            missing = [c for c in study.classes if c not in r.classes_present]
            if missing:
                lines.append(f"{'':<20} no image of {', '.join(missing)} at {site}: AUC and means are without it")
    lines += [f"{'':<20} {site} is not judged: {reason}" for site, reason in study.not_evaluated.items()]
    return "\n".join(lines)
